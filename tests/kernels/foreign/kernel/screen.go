package main

import "unsafe"

// The firmware configuration device of QEMU, docs/specs/fw_cfg.rst.
const (
	configData     = 0x09020000
	configSelector = 0x09020008
	configDMA      = 0x09020010
	keyDirectory   = 0x19
	dmaError       = 1
	dmaSelect      = 8
	dmaWrite       = 16
	fourccXR24     = 0x34325258
	width, height  = 32, 16
)

// A screen is memory that QEMU shows.
type screen struct {
	base          uintptr
	width, height uint32
}

var (
	theScreen *screen
	first     screen
	request   [16]byte
	ramfb     [28]byte
)

func screenInit() bool {
	key := find("etc/ramfb")
	if key == 0 {
		return false
	}
	first = screen{freePages.address, width, height}
	theScreen = &first
	big(ramfb[0:8], uint64(first.base))
	big(ramfb[8:12], fourccXR24)
	big(ramfb[16:20], width)
	big(ramfb[20:24], height)
	big(ramfb[24:28], 4*width)
	big(request[0:4], uint64(key)<<16|dmaSelect|dmaWrite)
	big(request[4:8], uint64(len(ramfb)))
	big(request[8:16], uint64(uintptr(unsafe.Pointer(&ramfb))))
	barrier()
	mmioWrite64(configDMA, swapped(uint64(uintptr(unsafe.Pointer(&request)))))
	barrier()
	return request[0]|request[1]|request[2]|request[3] == 0
}

// find gives the key of a file; 0 if there is none.
func find(name string) uint32 {
	mmioWrite16(configSelector, keyDirectory>>8|keyDirectory&0xff<<8)
	count := config(4)
	for ; count > 0; count-- {
		config(4)
		key := config(2)
		config(2)
		same := true
		for i := 0; i < 56; i++ {
			c := byte(config(1))
			if i < len(name) && c != name[i] || i == len(name) && c != 0 {
				same = false
			}
		}
		if same {
			return key
		}
	}
	return 0
}

// config reads a number of some bytes, the first the highest.
func config(bytes int) uint32 {
	value := uint32(0)
	for ; bytes > 0; bytes-- {
		value = value<<8 | mmioRead8(configData)
	}
	return value
}

func big(to []byte, value uint64) {
	for i := range to {
		to[i] = byte(value >> (8 * uint(len(to)-1-i)))
	}
}

func swapped(value uint64) uint64 {
	other := uint64(0)
	for i := 0; i < 8; i++ {
		other = other<<8 | value&0xff
		value >>= 8
	}
	return other
}

// show puts a picture on the screen, a pixel for each of its bits.
func (s *screen) show(picture *byte, size uint64) {
	set := 0
	for i := uint64(0); i < size; i++ {
		b := *(*byte)(unsafe.Add(unsafe.Pointer(picture), uintptr(i)))
		for bit := uint(0); bit < 8; bit++ {
			if b>>bit&1 != 0 {
				mmioWrite(s.base+4*(uintptr(i)*8+uintptr(bit)), 0x00ffffff)
				set++
			}
		}
	}
	if set != 8 {
		fail("the picture")
	}
}
