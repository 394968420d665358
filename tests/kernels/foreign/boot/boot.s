// Boot code as its author wrote it, for an image of long ago: numbers where symbols should be, a stack of its own.
// The offsets are those of runtime.g in every release so far.
    .section ".text.boot"
    .global _start

// _start: reset entry.
// In:  EL1, MMU off.   Out: does not return.
_start:
    mrs     x1, mpidr_el1               // Arm ARM: MPIDR_EL1: Aff0 numbers the cores of this machine
    ubfx    x1, x1, #0, #8
    cmp     x1, #0
    bne     halt

    movz    x10, #0x0900, lsl #16       // the UART's base
    movk    x10, #0x0000
    add     x11, x10, #0x18             // DDI 0183, 3.3.3 UARTFR
wait_for_room:
    ldr     w12, [x11]
    tst     w12, #(1 << 5)              // TXFF
    bne     wait_for_room
    mov     w13, #'S'
    str     w13, [x10]

    mov     x0, #(3 << 20)
    msr     cpacr_el1, x0               // Arm ARM: CPACR_EL1: FPEN, no trap
    isb
    movz    x0, #0x4f00, lsl #16        // the stack's end, far up in RAM
    mov     sp, x0
    ldr     x0, =exception_vectors
    msr     vbar_el1, x0                // Arm ARM: VBAR_EL1
    bl      buildsys.enable_mmu
    bl      buildsys.copy_data

    ldr     x4, =__bss_start            // 64 bytes at a time, and maybe a few more
    ldr     x9, =__bss_end
    mov     x5, #0
    mov     x6, #0
    b       2f
1:
    stp     x5, x6, [x4], #16
    stp     x5, x6, [x4], #16
    stp     x5, x6, [x4], #16
    stp     x5, x6, [x4], #16
2:
    cmp     x4, x9
    blo     1b

    movz    x10, #0x4002, lsl #16       // the flag, by nm: 0x40026b40
    movk    x10, #0x6b40
    mov     w11, #1
    strb    w11, [x10]
    dsb     sy
    ldr     x0, =kernel_main
    blr     x0
halt:
    wfe
    b       halt

// kernel_main: from boot code to Go.
// In: sp, the end of 64 KiB.   Out: does not return.   Clobbers: all.
    .text
    .global kernel_main
kernel_main:
    movz    x28, #0x4010, lsl #16       // runtime.g0, by nm: 0x40100ce0
    movk    x28, #0x0ce0
    mov     x1, sp
    sub     x0, x1, #0x10000
    stp     x0, x1, [x28]               // stack.lo, stack.hi
    add     x0, x0, #928                // StackGuard, internal/abi/stack.go
    stp     x0, x0, [x28, #16]          // stackguard0, stackguard1
    sub     sp, sp, #272                // room for the callee to spill its arguments
    bl      main.Main
    b       halt
