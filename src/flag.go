package main

import (
	"kernel/board"
	"kernel/memory"
	"kernel/uart"
)

// writeBarrierFlag is the address of runtime.writeBarrier, as the linker set it. Go
// source may not name that variable; assembly may.
func writeBarrierFlag() uintptr

// checkFlag tells whether boot code set the flag the compiler's code tests, and agrees
// with the linker about where it is.
func checkFlag(table *board.Table, console uart.Port) bool {
	if writeBarrierFlag() != table.WriteBarrier {
		console.Puts("ERROR: Write barrier flag is at ")
		console.PutHex(uint64(writeBarrierFlag()))
		console.Puts(", the board table says ")
		console.PutHex(uint64(table.WriteBarrier))
		console.Puts("!\r\n")
		return false
	}
	if memory.Load32(writeBarrierFlag()) == 0 {
		console.Puts("ERROR: Write barrier flag not set!\r\n")
		return false
	}
	console.Puts("Write barrier flag: enabled\r\n")
	return true
}

// checkGlobalPointer makes the store all this began with, a pointer to the heap's
// first segment into a global, and tells whether memory has it.
func checkGlobalPointer(table *board.Table, console uart.Port) bool {
	heapStart := table.Heap.Low
	heapSegmentListHead = castToPointer[heapSegment](heapStart)
	if stored(&heapSegmentListHead) != heapStart {
		console.Puts("ERROR: Global pointer assignment failed!\r\n")
		return false
	}
	console.Puts("SUCCESS: Global pointer assignment works!\r\n")
	return true
}
