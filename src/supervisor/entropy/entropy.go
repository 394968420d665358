// Package entropy is random numbers: from the board's own source where it has one, from the
// processor's, or else from a generator that anybody can guess who knows when the machine began.
package entropy

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

const (
	patience  = 10 // a source that gives nothing for one over this of a second has none
	hasRandom = 1  // Arm ARM, ID_AA64ISAR0_EL1, RNDR: bits 63:60
)

// state is that of the generator, splitmix64: Steele, Lea, Flood: Fast splittable pseudorandom number generators.
var state uint64

// source gives up to length bytes, 0 if it cannot; nil where there is none.
var source func(to, length uintptr) uintptr

// Init chooses the source. page is for pages of RAM, one behind another.
func Init(table *machine.Table, seconds uint64, page func() uintptr) {
	state = seconds<<32 ^ machine.Counter()
	switch table.Entropy {
	case machine.Virtio:
		if findVirtio(table.EntropyBase, page) {
			source = fromVirtio
		}
	case machine.BCM2835:
		startBCM2835(table.EntropyBase)
		source = fromBCM2835
	}
	if source == nil && machine.Features()>>60 >= hasRandom {
		source = fromProcessor
	}
}

// Fill fills memory that is there.
func Fill(to, length uintptr) {
	for length > 0 {
		got := uintptr(0)
		if source != nil {
			got = source(to, length)
		}
		if got == 0 {
			got = guessable(to, length)
		}
		to += got
		length -= got
	}
}

func fromProcessor(to, length uintptr) uintptr {
	return store(to, length, machine.Random())
}

func guessable(to, length uintptr) uintptr {
	state += 0x9e3779b97f4a7c15
	word := state ^ machine.Counter()
	word = (word ^ word>>30) * 0xbf58476d1ce4e5b9
	word = (word ^ word>>27) * 0x94d049bb133111eb
	return store(to, length, word^word>>31)
}

// store writes the bytes of a word, up to length; it returns how many.
func store(to, length uintptr, word uint64) uintptr {
	at := uintptr(0)
	for ; at < 8 && at < length; at++ {
		memory.Store8(to+at, uint8(word>>(8*at)))
	}
	return at
}

// waits calls done until it tells that something is so; it tells whether that came about in time.
func waits(done func() bool) bool {
	limit := machine.Counter() + machine.Frequency()/patience
	for !done() {
		if machine.Counter() > limit {
			return false
		}
	}
	return true
}
