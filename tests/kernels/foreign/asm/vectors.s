// The vectors, in a section to which its author's linker script gave a place, and nobody flags.
    .section ".vectors"
    .balign 2048
    .global exception_vectors
exception_vectors:
    .rept   16
    .balign 128
    b       count
    .endr

// count: one more exception; on behind the instruction that caused it.
// In: an exception.   Out: nothing.   Clobbers: nothing but ELR_EL1.
count:
    stp     x0, x1, [sp, #-16]!
    ldr     x0, =main.exceptions
    ldr     x1, [x0]
    add     x1, x1, #1
    str     x1, [x0]
    mrs     x0, elr_el1                 // Arm ARM: ELR_EL1
    add     x0, x0, #4
    msr     elr_el1, x0
    ldp     x0, x1, [sp], #16
    eret
