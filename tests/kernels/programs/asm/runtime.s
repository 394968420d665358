// What takes the place of the runtime's part in `defer`: calls wait in a list of the kernel's, each with
// the frame it belongs to, which the stack pointer tells; it is the same at every call of one frame.
    .text

// deferring(f): f waits for the end of the caller.
// In: x0, a function value.   Out: x0 = 0, nothing panicked.   Clobbers: what Go functions may.
    .global deferring
    .type   deferring, %function
deferring:
    mov     x1, sp
    b       main.waits
    .size   deferring, . - deferring

// deferringOnStack(record): the same, the function is in a record of the caller's.
// In: x0, a runtime._defer.   Out: x0 = 0.   Clobbers: what Go functions may.
    .global deferringOnStack
    .type   deferringOnStack, %function
deferringOnStack:
    mov     x1, sp
    b       main.waitsOnStack
    .size   deferringOnStack, . - deferringOnStack

// returning(): what waits for the end of the caller is called.
// In: nothing.   Out: nothing.   Clobbers: what Go functions may.
    .global returning
    .type   returning, %function
returning:
    mov     x0, sp
    b       main.ends
    .size   returning, . - returning
