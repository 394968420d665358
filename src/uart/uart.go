// Package uart writes text to an Arm PL011 serial port by polling.
//
// It expects the port to be enabled and its baud rate set, as emulators and most
// firmware leave it. Section numbers are those of the PrimeCell UART (PL011)
// Technical Reference Manual, DDI 0183.
package uart

import "kernel/memory"

// Offsets of the registers used, in bytes from the port's first.
const (
	dataRegister = 0x00 // UARTDR, 3.3.1: writing bits 7-0 sends a character
	flagRegister = 0x18 // UARTFR, 3.3.3
)

// Bits of the flag register.
const (
	busy             = 1 << 3 // BUSY: the last character has not left the wire yet
	transmitFIFOFull = 1 << 5 // TXFF: a character written now would be lost
)

// A Port is one PL011, known by the address of its first register.
type Port struct {
	base uintptr
}

// At is the port whose first register is at base.
func At(base uintptr) Port {
	return Port{base}
}

// PutByte sends one byte, waiting until the port has room for it.
func (p Port) PutByte(b byte) {
	for memory.Load32(p.base+flagRegister)&transmitFIFOFull != 0 {
	}
	memory.Store32(p.base+dataRegister, uint32(b))
}

// Puts sends text as it is: a line ends with "\r\n" only if text says so.
func (p Port) Puts(text string) {
	for i := 0; i < len(text); i++ {
		p.PutByte(text[i])
	}
}

// PutHex sends value in hexadecimal, with 0x before it and no leading zeros.
func (p Port) PutHex(value uint64) {
	p.Puts("0x")
	p.putDigits(value, 16)
}

// PutDecimal sends value in decimal.
func (p Port) PutDecimal(value uint64) {
	p.putDigits(value, 10)
}

// Drain waits until every character written has been sent.
func (p Port) Drain() {
	for memory.Load32(p.base+flagRegister)&busy != 0 {
	}
}

// putDigits sends value in the given base, 2 to 16, without leading zeros.
func (p Port) putDigits(value, base uint64) {
	// The highest power of the base that is not above value, found by division:
	// multiplying up to it could overflow.
	power := uint64(1)
	for value/power >= base {
		power *= base
	}
	for ; power > 0; power /= base {
		p.PutByte("0123456789abcdef"[value/power%base&15])
	}
}
