// Package memory reads and writes memory the compiler must not reason about:
// device registers, words another party changes, words just stored that are to be
// seen as memory has them.
//
// The compiler may keep a stored value in a register and answer a later read from
// there, merge two reads, or widen a store. These routines are assembly so that each
// call is exactly one access of exactly the width in its name, by an instruction
// without write-back, which hypervisors can emulate on device memory.
package memory

import "unsafe"

// At is address as a pointer to a T. It is how an address from outside Go (from
// the board table, from a device) becomes a Go pointer; the address must be aligned
// as T is, and the memory there must be of no other use.
func At[T any](address uintptr) *T {
	// The bits of address, read as a pointer: the rules of package unsafe have no
	// conversion for a number that never was a Go pointer. Arithmetic on nil would do,
	// but the compiler takes its result for a pointer no collector need hear of, and
	// leaves half the barrier out when it is stored.
	return *(**T)(unsafe.Pointer(&address))
}

// Load8 reads the byte at address.
func Load8(address uintptr) uint8

// Load32 reads the word at address, a multiple of 4.
func Load32(address uintptr) uint32

// Load64 reads the doubleword at address, a multiple of 8.
func Load64(address uintptr) uint64

// Store8 writes the byte at address.
func Store8(address uintptr, value uint8)

// Store32 writes the word at address, a multiple of 4.
func Store32(address uintptr, value uint32)

// Store64 writes the doubleword at address, a multiple of 8.
func Store64(address uintptr, value uint64)
