//go:build !go1.21

package features

// Before Go 1.21 this works as well, but the compiler keeps the flag's address in registers
// for so long there that the proof loses sight of it.
func more(Printer) {}
