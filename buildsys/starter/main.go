// Package main is the kernel.
//
// Boot code calls KernelMain with the Go runtime not started: no garbage collector, no
// goroutines, no package initialisers. What needs them (new, make, append, maps, fmt) is
// refused when the image is built, with the way the kernel gets there.
package main

import (
	"kernel/board"       // where the memory and the devices of this machine are
	"kernel/semihosting" // how to end the emulator
	"kernel/uart"        // text over the serial port
)

// greeting is a pointer: storing it goes through Go's write barrier, as in any Go program.
var greeting *string

// words is what it points to.
var words = "Hello from Go, on nothing but the machine.\r\n"

// main is never run. It is the reason that Go keeps KernelMain.
func main() {
	KernelMain(nil)
}

// KernelMain is the entry. Its result is the exit status, on a machine that can exit.
//
//go:noinline
func KernelMain(table *board.Table) int32 {
	console := uart.At(table.UART) // the serial port of the board file
	greeting = &words              // stored by way of a barrier of buildsys
	console.Puts(*greeting)        // one byte at a time, without interrupts
	console.Puts("RAM for a heap: ")
	console.PutDecimal(uint64(table.Heap.Length()))
	console.Puts(" bytes\r\n")
	console.Drain()     // wait until the last byte has left
	semihosting.Exit(0) // ends the emulator with status 0
	return 0
}
