//go:build !qemu

package main

const uartBase = 0xfe201000

// putc sends a byte over the PL011 of a Raspberry Pi 4.
func putc(c byte) {
	for mmio_read(uartBase+0x18)&(1<<5) != 0 {
	}
	mmio_write(uartBase, uint32(c))
}
