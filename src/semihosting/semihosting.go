// Package semihosting lets a program end the emulator or debugger it runs under.
//
// Source: Arm, "Semihosting for AArch32 and AArch64". The host must have semihosting
// enabled (QEMU: -semihosting); without a host, the trap instruction is a fault.
package semihosting

// Exit ends the run; status becomes the exit status of the emulator. It returns
// only if the host chose to go on, which a debugger may.
func Exit(status int32)
