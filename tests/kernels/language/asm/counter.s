// The processor's own clock, which runs from reset on.
    .cfi_sections .debug_frame
    .text
    .balign 4

// counter: how often it has ticked.
// In:  nothing.   Out: x0.   Clobbers: nothing else.
    .global counter
    .type   counter, %function
counter:
    .cfi_startproc
    isb
    mrs     x0, cntvct_el0              // Arm ARM: CNTVCT_EL0
    ret
    .cfi_endproc
    .size   counter, . - counter

// frequency: how often it ticks in a second.
// In:  nothing.   Out: x0.   Clobbers: nothing else.
    .global frequency
    .type   frequency, %function
frequency:
    .cfi_startproc
    mrs     x0, cntfrq_el0              // Arm ARM: CNTFRQ_EL0
    ret
    .cfi_endproc
    .size   frequency, . - frequency
