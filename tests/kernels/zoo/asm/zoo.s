// Ways to fail that Go has no words for. Their numbers are those of main.go.
    .cfi_sections .debug_frame
    .text
    .balign 4

// zoo.fail: fail.
// In:  x0 = how.   Out: does not return, as a rule.   Clobbers: anything.
    .global zoo.fail
    .type   zoo.fail, %function
zoo.fail:
    .cfi_startproc
    stp     x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset x29, -16
    .cfi_offset x30, -8
    cmp     x0, #10
    b.eq    unchecked
    cmp     x0, #11
    b.eq    nil_jump
    cmp     x0, #12
    b.eq    misaligned_pc
    cmp     x0, #13
    b.eq    unaligned
    cmp     x0, #14
    b.eq    unaligned_no_mmu
    cmp     x0, #15
    b.eq    undefined
    cmp     x0, #16
    b.eq    breakpoint
    cmp     x0, #17
    b.eq    system_call
    cmp     x0, #18
    b.eq    no_float
    cmp     x0, #19
    b.eq    data_as_code
    cmp     x0, #20
    b.eq    smashed
    cmp     x0, #23
    b.eq    sleeps
    cmp     x0, #27
    b.eq    broken_stack
    cmp     x0, #28
    b.eq    no_vectors
    cmp     x0, #29
    b.eq    starts
    cmp     x0, #30
    b.eq    resets
    cmp     x0, #31
    b.eq    powered_off
    cmp     x0, #32
    b.eq    trap
    cmp     x0, #36
    b.eq    nested
    cmp     x0, #37
    b.eq    overrun
    cmp     x0, #40
    b.eq    exception_overflow
    cmp     x0, #43
    b.eq    leaps
    cmp     x0, #44
    b.eq    unchecked_no_mmu
    ldp     x29, x30, [sp], #16
    ret

unchecked_no_mmu:                           // no guard is in its way then
    mrs     x1, sctlr_el1
    bic     x1, x1, #1                      // Arm ARM: SCTLR_EL1: M
    msr     sctlr_el1, x1
    isb
unchecked:                                  // runs down its stack, and on if nothing guards its end
    stp     x29, x30, [sp, #-256]!
    stp     x29, x30, [sp, #128]
    b       unchecked
nil_jump:
    mov     x1, xzr
    blr     x1
    b       .
misaligned_pc:
    adr     x1, zoo.fail + 2
    br      x1
unaligned:
    adrp    x1, zoo.words
    add     x1, x1, :lo12:zoo.words
    add     x1, x1, #1
    ldxr    x2, [x1]                        // exclusives must be aligned, whatever SCTLR_EL1.A says
    b       .
unaligned_no_mmu:
    adrp    x3, zoo.words
    add     x3, x3, :lo12:zoo.words
    add     x3, x3, #2
    mrs     x1, sctlr_el1
    bic     x1, x1, #1                      // Arm ARM: SCTLR_EL1: M
    orr     x1, x1, #2                      // A: as all emulators check it, for Device memory or not
    msr     sctlr_el1, x1
    isb
    ldr     x2, [x3]
    b       .
undefined:
    udf     #7
breakpoint:
    brk     #0x2a
system_call:
    mov     x8, #94
    svc     #0
no_float:
    msr     cpacr_el1, xzr                  // Arm ARM: CPACR_EL1: FPEN
    isb
    fmov    d0, #1.0
    b       .
data_as_code:
    adrp    x1, zoo.words
    add     x1, x1, :lo12:zoo.words
    br      x1
smashed:                                    // the return address is text now
    movz    x1, #0x4141
    movk    x1, #0x4141, lsl #16
    movk    x1, #0x0041, lsl #32
    and     x1, x1, #~3
    str     x1, [sp, #8]
    ldp     x29, x30, [sp], #16
    ret
sleeps:
    wfi
    b       sleeps
broken_stack:                               // that of exceptions, and then an exception
    msr     spsel, #1
    mov     x1, #0x10
    mov     sp, x1
    msr     spsel, #0
    brk     #1
nested:                                     // on the stack of exceptions, as a handler is
    msr     spsel, #1
    brk     #3
overrun:                                    // deeper than the stack, and back again: nobody looked
    mov     x1, sp
    mov     x2, #(0x20000 / 64)             // what boot code gave: layout.stack
1:  stp     x1, x30, [sp, #-64]!
    subs    x2, x2, #1
    b.ne    1b
    mov     sp, x1
    ldp     x29, x30, [sp], #16
    ret
exception_overflow:                         // as a handler would that needs more than there is
    msr     spsel, #1
1:  stp     x29, x30, [sp, #-256]!
    b       1b
leaps:                                      // to the last byte, and with one frame over the guard
    mov     x1, sp
    adrp    x2, __stack_low
    add     x2, x2, :lo12:__stack_low
    mov     sp, x2
    stp     x1, x30, [sp]
    sub     sp, sp, #0x2000
    stp     x1, x30, [sp]
    mov     sp, x1
    ldp     x29, x30, [sp], #16
    ret
no_vectors:
    msr     vbar_el1, xzr
    isb
    brk     #2
starts:
    ldr     x1, =_start
    br      x1
resets:
    movz    w0, #9                          // PSCI, SYSTEM_RESET
    movk    w0, #0x8400, lsl #16
    hvc     #0
powered_off:
    movz    w0, #8                          // PSCI, SYSTEM_OFF
    movk    w0, #0x8400, lsl #16
    hvc     #0
trap:                                       // right at the trap of the way out, with a status of 0
    movz    x1, #0x26
    movk    x1, #2, lsl #16
    stp     xzr, xzr, [sp, #-16]!
    stp     x1, xzr, [sp, #-16]!
    ldr     x2, =buildsys.exit
1:  ldr     w3, [x2], #4
    movz    w4, #0xd45e, lsl #16            // hlt #0xf000
    cmp     w3, w4
    b.ne    1b
    sub     x2, x2, #4
    mov     x1, sp
    mov     w0, #0x18
    br      x2
    .cfi_endproc
    .size   zoo.fail, . - zoo.fail
    .ltorg

// zoo.barrier: takes the place of a barrier, and gives no room: x25 is what it must not be.
// In:  nothing.   Out: x25, which is no address.   Clobbers: nothing else.
    .global zoo.barrier
    .type   zoo.barrier, %function
zoo.barrier:
    .cfi_startproc
    movz    x25, #0xdead, lsl #32
    ret
    .cfi_endproc
    .size   zoo.barrier, . - zoo.barrier

    .data
    .balign 64
    .global zoo.words
    .type   zoo.words, %object
zoo.words:
    .quad   0x1234567812345678, 0x1234567812345678
    .size   zoo.words, . - zoo.words
