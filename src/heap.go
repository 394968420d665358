package main

import (
	"unsafe"

	"kernel/board"
	"kernel/heap"
	"kernel/uart"
)

type heapSegment = heap.Segment

// heapSegmentListHead is the first segment of the kernel's heap.
var heapSegmentListHead *heapSegment

// heapLength is the number of bytes of the kernel's heap, headers included.
var heapLength uintptr

// kmalloc gives size bytes of the heap, nil if it has no such block free.
func kmalloc(size uint32) unsafe.Pointer {
	return heapSegmentListHead.Allocate(uintptr(size))
}

// kfree takes back what kmalloc gave. It is false if that is not what block is.
func kfree(block unsafe.Pointer) bool {
	return heapSegmentListHead.Free(block)
}

// initHeap makes all of the board's heap one free segment, through the pointer that
// checkGlobalPointer stored.
func initHeap(table *board.Table, console uart.Port) bool {
	if !table.RAM.Holds(table.Heap) || table.Heap.Overlaps(table.Stack) ||
		!table.RAM.Contains(address(&heapSegmentListHead)) {
		console.Puts("ERROR: Heap is not in RAM of its own!\r\n")
		return false
	}
	heapLength = table.Heap.Length()
	emptyHeap()
	if fault := heapFault(); fault != "" {
		console.Puts("ERROR: Heap initialization failed: ")
		console.Puts(fault)
		console.Puts("!\r\n")
		return false
	}
	console.Puts("Heap initialized at RAM region\r\n")
	return true
}

// emptyHeap makes the heap one free segment, whatever was allocated.
func emptyHeap() {
	heapSegmentListHead.Init(heapLength)
}

// heapFault says what is wrong with a heap no block of which is in use: a broken list,
// or segments that were not merged. It is empty if all is well.
//
//go:noinline
func heapFault() string {
	if fault := heapSegmentListHead.Fault(heapLength); fault != "" {
		return fault
	}
	if heapSegmentListHead.Next() != nil || heapSegmentListHead.Allocated() {
		return "blocks are left in the heap"
	}
	return ""
}
