package main

import "unsafe"

// flagSet reads the write barrier's flag where nm once said that it was.
//
//go:noinline
func flagSet() bool { return read32(0x40026b40) != 0 }

func read32(address uintptr) uint32 { return *(*uint32)(at[uint32](address)) }

func at[T any](address uintptr) *T {
	// The address is memory's, not a pointer that was kept as a number.
	return *(**T)(unsafe.Pointer(&address))
}
