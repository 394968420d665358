package entropy

import "kernel/memory"

// Registers of the random number generator of the BCM2835, which Broadcom does not describe: as in Linux's
// drivers/char/hw_random/bcm2835-rng.c.
const (
	control   = 0x0 // bit 0: on
	status    = 0x4 // bits 31:24: words that can be read; below, words to throw away at first
	data      = 0x8
	thrown    = 0x40000
	countFrom = 24
)

var generator uintptr

func startBCM2835(base uintptr) {
	generator = base
	memory.Store32(base+status, thrown)
	memory.Store32(base+control, 1)
}

func fromBCM2835(to, length uintptr) uintptr {
	if !waits(func() bool { return memory.Load32(generator+status)>>countFrom != 0 }) {
		return 0
	}
	if length > 4 {
		length = 4
	}
	return store(to, length, uint64(memory.Load32(generator+data)))
}
