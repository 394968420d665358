// Package main is a kernel that allocates: it runs the features on bare metal.
package main

import (
	"alloc/features"
	"kernel/board"
	"kernel/semihosting"
	"kernel/uart"
)

func main() { KernelMain(nil) }

// KernelMain is the entry.
//
//go:noinline
func KernelMain(table *board.Table) int32 {
	console := uart.At(table.UART)
	features.Run(func(line string) {
		console.Puts(line)
		console.Puts("\n")
	})
	console.Drain()
	semihosting.Exit(0)
	return 0
}
