// Package semihosting lets a program end the emulator or debugger it runs under.
//
// Source: Arm, "Semihosting for AArch32 and AArch64". The host must have semihosting
// enabled (QEMU: -semihosting); without a host, the trap instruction is a fault.
package semihosting

import _ "unsafe" // for go:linkname

// Exit ends the run; status becomes the exit status of the emulator. It does not return.
//
// It is boot code's own way out (templates/boot.s.j2), which tells the host of which
// image this is the end: only then is a status of 0 believed.
//
//go:linkname Exit buildsys.end
func Exit(status int32)
