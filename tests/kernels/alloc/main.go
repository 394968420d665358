// Package main is a kernel that allocates: it runs the features on bare metal.
package main

import (
	"alloc/features"
	"kernel/board"
	"kernel/memory"
	"kernel/semihosting"
	"kernel/uart"
	"unsafe"
)

// main keeps each entry, and the allocators of the kernel's own, from being left out.
func main() {
	for _, entry := range [...]func(*board.Table) int32{KernelMain, Dirty, Exhaust, TooMuch, Own} {
		entry(nil)
	}
	allocate(0, nil, false)
	careless(0, nil, false)
}

// KernelMain runs the features.
//
//go:noinline
func KernelMain(table *board.Table) int32 {
	console := uart.At(table.UART)
	features.Run(func(line string) {
		console.Puts(line)
		console.Puts("\n")
	})
	return end(console, 0)
}

// end ends the run.
func end(console uart.Port, status int32) int32 {
	console.Drain()
	semihosting.Exit(status)
	return status
}

// first is where what is allocated begins.
var first *[64]byte

// Dirty runs the features in memory that holds something else: RAM after a warm reset.
//
//go:noinline
func Dirty(table *board.Table) int32 {
	first = new([64]byte)
	next := uintptr(unsafe.Pointer(first)) + unsafe.Sizeof(*first)
	for at := next; at < next+16<<20 && at < table.RAM.End; at += 8 {
		memory.Store64(at, 0xa5a5a5a5_5a5a5a5a)
	}
	return KernelMain(table)
}

var blocks [][]byte

// Exhaust allocates until there is no more memory, and says how much it got before each block.
//
//go:noinline
func Exhaust(table *board.Table) int32 {
	console := uart.At(table.UART)
	for n := 0; ; n++ {
		console.PutDecimal(uint64(n))
		console.Puts("\n")
		blocks = append(blocks, make([]byte, 100_000))
	}
}

// size is not known when this is compiled.
//
//go:noinline
func size() int { return 1 << 40 }

// TooMuch asks for more memory than there is.
//
//go:noinline
func TooMuch(table *board.Table) int32 {
	blocks = append(blocks, make([]byte, size()))
	return end(uart.At(table.UART), 0)
}

// The memory that allocate hands out, and how often it was asked.
var (
	free  board.Range
	asked int
)

// allocate is an allocator of the kernel's own: `alloc = "main.allocate"`. It may use nothing that allocates.
//
//go:noinline
func allocate(size uintptr, _ unsafe.Pointer, _ bool) unsafe.Pointer {
	asked++
	size = (size + 15) &^ 15
	if size > free.Length() {
		panic("allocate: no memory")
	}
	block := memory.At[byte](free.Low)
	free.Low += size
	for at := uintptr(0); at < size; at += 8 {
		*(*uint64)(unsafe.Add(unsafe.Pointer(block), at)) = 0
	}
	return unsafe.Pointer(block)
}

// Own runs the features with allocate, and fails if it was not asked.
//
//go:noinline
func Own(table *board.Table) int32 {
	free = table.Heap
	console := uart.At(table.UART)
	lines := 0
	features.Run(func(line string) {
		console.Puts(line)
		console.Puts("\n")
		lines++
	})
	blocks = append(blocks, make([]byte, 100))
	if asked < 10*lines || !table.Heap.Contains(uintptr(unsafe.Pointer(&blocks[0][0]))) {
		return end(console, 1)
	}
	return end(console, 0)
}

// careless allocates in order to allocate.
//
//go:noinline
func careless(size uintptr, what unsafe.Pointer, zero bool) unsafe.Pointer {
	blocks = append(blocks, nil)
	return allocate(size, what, zero)
}
