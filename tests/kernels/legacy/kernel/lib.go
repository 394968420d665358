package main

import _ "unsafe" // for go:linkname

// What lib.s and uart.s.j2 have.

//go:linkname mmio_write mmio_write
//go:nosplit
func mmio_write(address uintptr, value uint32)

//go:linkname mmio_read mmio_read
//go:nosplit
func mmio_read(address uintptr) uint32

//go:linkname bzero bzero
//go:nosplit
func bzero(address uintptr, size uint32)

//go:linkname qemu_exit qemu_exit
//go:nosplit
func qemu_exit(status int32)

//go:linkname call_back call_back
func call_back(x uint64) uint64

//go:linkname logo logo
//go:nosplit
func logo() (*byte, uint64)

//go:linkname uart_base uart_base
//go:nosplit
func uart_base() uintptr
