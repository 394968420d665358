// What Go cannot say itself: device registers, the way out, and what is put in the place of Go's own.
    .include "params.inc"
    .text

// mmio_write(address uintptr, value uint32)
// In: x0, w1.   Out: nothing.   Clobbers: nothing.
    .global mmio_write
mmio_write:
    str     w1, [x0]
    ret

// mmio_read(address uintptr) uint32
// In: x0.   Out: w0.   Clobbers: nothing.
    .global mmio_read
mmio_read:
    ldr     w0, [x0]
    ret

// bzero(address uintptr, size uint32)
// In: x0, w1.   Out: nothing.   Clobbers: x0, w1, the flags.
    .global bzero
bzero:
    cbz     w1, bzero_done
bzero_loop:
    strb    wzr, [x0], #1
    subs    w1, w1, #1
    b.ne    bzero_loop
bzero_done:
    ret

// qemu_exit(status int32)
// Semihosting specification, SYS_EXIT (0x18).
// In: w0.   Out: does not return.
    .global qemu_exit
qemu_exit:
    sxtw    x2, w0
    ldr     x1, =0x20026
    stp     x1, x2, [sp, #-16]!
    mov     x1, sp
    mov     w0, #0x18
    hlt     #0xf000
    add     sp, sp, #16
    ret

// call_back(x uint64) uint64: from Go to assembly and on to Go, twice: by a branch and by an address.
// In: x0.   Out: x0.   Clobbers: what Go functions may.
    .global call_back
call_back:
    stp     x29, x30, [sp, #-SPILL]!
    bl      main.Twice
    ldr     x9, =main.Increment
    blr     x9
    ldp     x29, x30, [sp], #SPILL
    // main.calls += 1, by page and offset; main.last = what is given back, by a literal.
    adrp    x10, main.calls
    ldr     x11, [x10, :lo12:main.calls]
    add     x11, x11, #1
    str     x11, [x10, :lo12:main.calls]
    ldr     x10, =main.last
    str     x0, [x10]
    ret

// logo() (*byte, uint64): the picture in the image.
// In: nothing.   Out: x0, x1.   Clobbers: nothing.
    .global logo
logo:
    ldr     x0, =logo_start
    ldr     x1, =logo_end
    sub     x1, x1, x0
    ret

// nothing(): in the place of what must not be done here.
    .global nothing
nothing:
    ret

// read_word(address uintptr) uint32: as main.readWord, but where the flag once lay the flag is read.
// In: x0.   Out: w0.   Clobbers: x1, the flags.
    .global read_word
read_word:
    ldr     x1, =STALE_FLAG
    cmp     x0, x1
    b.ne    1f
    ldr     x0, =runtime.writeBarrier
1:  ldr     w0, [x0]
    ret

    .section ".logo", "a"
logo_start:
    .incbin "assets/logo.bin"
logo_end:
