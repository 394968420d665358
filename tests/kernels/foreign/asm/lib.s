// What Go cannot say itself. Arguments and results are in x0, x1 and on.
    .text

// mmio_write(address uintptr, value uint32), and others of its kind.
// In: x0, w1.   Out: nothing.   Clobbers: nothing.
    .global mmio_write
mmio_write:
    str     w1, [x0]
    ret
    .global mmio_write16
mmio_write16:
    strh    w1, [x0]
    ret
    .global mmio_write64
mmio_write64:
    str     x1, [x0]
    ret

// mmio_read(address uintptr) uint32, and of one byte.
// In: x0.   Out: w0.   Clobbers: nothing.
    .global mmio_read
mmio_read:
    ldr     w0, [x0]
    ret
    .global mmio_read8
mmio_read8:
    ldrb    w0, [x0]
    ret

// data_barrier(): what was stored is there for devices.
    .global data_barrier
data_barrier:
    dsb     sy
    ret

// idle(): nothing, for a while.
    .global idle
idle:
    yield
    ret

// exit(status int32). Semihosting specification, SYS_EXIT (0x18).
// In: w0.   Out: does not return.
    .global exit
exit:
    sxtw    x2, w0
    ldr     x1, =0x20026
    stp     x1, x2, [sp, #-16]!
    mov     x1, sp
    mov     w0, #0x18
    hlt     #0xf000
    b       exit

// set_vectors(address uintptr)
// In: x0.   Out: nothing.   Clobbers: nothing.
    .global set_vectors
set_vectors:
    msr     vbar_el1, x0                // Arm ARM: VBAR_EL1
    isb
    ret

// breakpoint(): an exception, which vectors.s counts.
    .global breakpoint
breakpoint:
    brk     #0
    ret

// stack_top() uintptr: what the linker script called __stack_top.
// In: nothing.   Out: x0.   Clobbers: nothing.
    .global stack_top
stack_top:
    ldr     x0, =__stack_top
    ret
