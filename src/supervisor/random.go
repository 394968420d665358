package main

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

// randomState is that of a generator (splitmix64). Where the processor has a generator of its own, each number is
// mixed with one of that; else all depends on the clock at the start, and can be guessed.
var randomState uint64

const hasRandom = 1 // Arm ARM, ID_AA64ISAR0_EL1, RNDR: bits 63:60

func seedRandom(seconds uint64) {
	randomState = seconds<<32 ^ machine.Counter()
}

func nextRandom() uint64 {
	randomState += 0x9e3779b97f4a7c15
	if machine.Features()>>60 >= hasRandom {
		randomState ^= machine.Random()
	}
	word := randomState ^ machine.Counter()
	word = (word ^ word>>30) * 0xbf58476d1ce4e5b9
	word = (word ^ word>>27) * 0x94d049bb133111eb
	return word ^ word>>31
}

// fillRandom fills memory that is there.
func fillRandom(to, length uintptr) {
	for length > 0 {
		word := nextRandom()
		for at := 0; at < 8 && length > 0; at++ {
			memory.Store8(to, uint8(word>>(8*at)))
			to++
			length--
		}
	}
}
