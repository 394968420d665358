package main

import "unsafe"

// Where the linker script put the vectors.
var vectorsStart [0]byte

// exceptions is counted by vectors.s.
var exceptions uint64

func vectorsInit() {
	setVectors(uintptr(unsafe.Pointer(&vectorsStart)))
	breakpoint()
	if exceptions != 1 {
		fail("the vectors are elsewhere")
	}
}
