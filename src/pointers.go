package main

import (
	"unsafe"

	"kernel/memory"
)

// castToPointer is address as a pointer to a T.
func castToPointer[T any](address uintptr) *T {
	return memory.At[T](address)
}

// address is where p points, as a number.
func address[T any](p *T) uintptr {
	return uintptr(unsafe.Pointer(p))
}

// stored is the pointer that memory has at place, as a number.
func stored[T any](place **T) uintptr {
	return storedWord(unsafe.Pointer(place), 0)
}

// storedWord is the 64-bit word that memory has at an index from start.
func storedWord(start unsafe.Pointer, index uintptr) uintptr {
	return uintptr(memory.Load64(uintptr(start) + index*unsafe.Sizeof(index)))
}
