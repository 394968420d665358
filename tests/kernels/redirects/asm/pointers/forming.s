// through(x uint64) uint64: goes on in Go, by an address formed here.
// In: x0.   Out: x0.   Clobbers: what Go functions may.
    .text
    .global through
through:
    adrp    x16, main.workFormed
    add     x16, x16, :lo12:main.workFormed
    br      x16

// held(x uint64) uint64: likewise, by an address among the code.
// In: x0.   Out: x0.   Clobbers: what Go functions may.
    .global held
held:
    ldr     x16, =main.workHeld
    br      x16
