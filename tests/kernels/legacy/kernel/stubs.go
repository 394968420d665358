package main

import "unsafe"

// initStubs makes a runtime.g at the address it had in some earlier image: redirected, as that is no memory.
func initStubs() {
	*(*uintptr)(unsafe.Pointer(uintptr(0x331a30))) = 0x332100
}

// readWord reads a word of memory.
func readWord(address uintptr) uint32 {
	return *(*uint32)(unsafe.Pointer(address))
}
