// The vectors, in a section of their own as in many kernels.
    .section ".vectors", "ax"
    .balign 2048
    .global exception_vectors
exception_vectors:
    .rept   16
    .balign 128
    b       exception
    .endr

// exception: tells Go what it was.
// In: an exception.   Out: does not return.
exception:
    mrs     x0, esr_el1                 // Arm ARM: ESR_EL1
    mrs     x1, far_el1                 // Arm ARM: FAR_EL1
    b       main.Exception
