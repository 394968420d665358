//go:build qemu

package main

// putc sends a byte over QEMU's PL011.
func putc(c byte) {
	base := uart_base()
	for mmio_read(base+0x18)&(1<<5) != 0 {
	}
	mmio_write(base, uint32(c))
}
