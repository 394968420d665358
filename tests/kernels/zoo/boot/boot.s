// Boot code of the kernel's own: its stacks have no guards below them.
    .section ".text.boot", "ax"
    .global _start

// _start: reset entry; main.KernelMain is to fail as `unchecked` in zoo.s does.
// In:  EL1, MMU off.   Out: does not return.
_start:
    mrs     x1, mpidr_el1               // Arm ARM: MPIDR_EL1: Aff2, Aff1, Aff0
    tst     x1, #0xffffff
    b.ne    halt
    mov     x0, #(3 << 20)
    msr     cpacr_el1, x0               // Arm ARM: CPACR_EL1: FPEN, no trap
    isb
    msr     spsel, #1                   // Arm ARM: SPSel: exceptions have a stack of their own
    ldr     x0, =__exception_stack_high
    mov     sp, x0
    msr     spsel, #0
    ldr     x0, =__stack_high
    mov     sp, x0
    ldr     x0, =buildsys.vectors
    msr     vbar_el1, x0                // Arm ARM: VBAR_EL1
    bl      buildsys.enable_mmu
    bl      buildsys.copy_data
    bl      buildsys.clear_bss
    ldr     x28, =runtime.g0
    ldr     x0, =__stack_low
    mov     x1, sp
    stp     x0, x1, [x28]               // stack.lo, stack.hi
    add     x0, x0, #928                // StackGuard, internal/abi/stack.go
    stp     x0, x0, [x28, #16]          // stackguard0, stackguard1
    sub     sp, sp, #272                // room for the callee to spill its arguments
    ldr     x0, =buildsys.board
    mov     x1, #10
    bl      main.KernelMain
    b       buildsys.exit

halt:
    wfe
    b       halt
