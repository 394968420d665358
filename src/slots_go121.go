//go:build go1.21

package main

// slotsInR25 tells how this Go's barriers work. Since Go 1.21 a barrier returns in x25
// the address of slots, and the code that called it writes the old and new pointers
// there before it makes the store (the Go source, src/runtime/asm_arm64.s).
const slotsInR25 = true
