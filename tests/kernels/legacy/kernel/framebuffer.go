package main

import (
	"unsafe"

	"legacy/bits"
)

// Where there is room for pixels, and how many: literal, as on many a kernel's first day.
const (
	framebufferBase = 0x42000000
	width, height   = 64, 16
)

// A framebuffer is a screen of 32 bits a pixel.
type framebuffer struct {
	base          uintptr
	width, height uint32
}

var screen *framebuffer

var theScreen framebuffer

func framebufferInit() {
	theScreen = framebuffer{framebufferBase, width, height}
	screen = &theScreen
	bzero(screen.base, 4*width*height)
}

// draw shows a picture, a pixel for each of its bits, and gives the number of pixels set.
func (f *framebuffer) draw(picture *byte, size uint64) uint32 {
	set := uint32(0)
	for i := uint64(0); i < size; i++ {
		b := *(*byte)(unsafe.Add(unsafe.Pointer(picture), uintptr(i)))
		for bit := uint(0); bit < 8; bit++ {
			if bits.Has(uint64(b), bit) {
				mmio_write(f.base+4*(uintptr(i)*8+uintptr(bit)), 0x00ffffff)
				set++
			}
		}
	}
	return set
}
