// Package board is the kernel's view of the machine it runs on.
//
// A kernel holds no address of its own. Boot code, rendered from the board file,
// leaves a read-only table and hands its address to the entry function;
// Table mirrors that table word for word.
package board

import "unsafe"

// A Range is the addresses from Low up to, but not including, End.
type Range struct {
	Low, End uintptr
}

// Length is the number of bytes in r.
func (r Range) Length() uintptr {
	return r.End - r.Low
}

// Contains tells whether address lies in r.
func (r Range) Contains(address uintptr) bool {
	return r.Low <= address && address < r.End
}

// Holds tells whether all of part, which must not be empty, lies in r.
func (r Range) Holds(part Range) bool {
	return r.Low <= part.Low && part.Low < part.End && part.End <= r.End
}

// Overlaps tells whether r and other share an address.
func (r Range) Overlaps(other Range) bool {
	return r.Low < other.End && other.Low < r.End
}

// A Table describes one board: eleven 64-bit little-endian words, in this order.
// New words go to the end, so that a shorter, older table is a prefix of a newer one.
type Table struct {
	Size         uintptr // bytes in the table, this word included
	Flash        Range   // where code is, if that is flash, else empty; a write to it is lost
	RAM          Range   // everything that can be written; not the code, if that is in RAM
	Stack        Range   // the stack the entry function was called on
	Heap         Range   // RAM nothing else uses
	UART         uintptr // the serial port's first register
	WriteBarrier uintptr // the flag the compiler tests before each pointer store
}

// Matches tells whether boot code and this package agree on the table's size. If
// they do not, they were built from different sources and no word can be trusted.
func (t *Table) Matches() bool {
	return t.Size == unsafe.Sizeof(*t)
}

// HasUART tells whether the table is long enough to have the UART word: enough to
// say over the serial port why nothing else of the table is used.
func (t *Table) HasUART() bool {
	return t.Size >= unsafe.Offsetof(t.UART)+unsafe.Sizeof(t.UART)
}
