package main

import _ "unsafe" // for go:linkname

//go:linkname mmioWrite mmio_write
//go:nosplit
func mmioWrite(address uintptr, value uint32)

//go:linkname mmioRead mmio_read
//go:nosplit
func mmioRead(address uintptr) uint32

//go:linkname mmioWrite64 mmio_write64
//go:nosplit
func mmioWrite64(address uintptr, value uint64)

//go:linkname mmioWrite16 mmio_write16
//go:nosplit
func mmioWrite16(address uintptr, value uint32)

//go:linkname mmioRead8 mmio_read8
//go:nosplit
func mmioRead8(address uintptr) uint32

//go:linkname barrier data_barrier
//go:nosplit
func barrier()

//go:linkname idle idle
//go:nosplit
func idle()

//go:linkname exit exit
//go:nosplit
func exit(status int32)

//go:linkname setVectors set_vectors
//go:nosplit
func setVectors(address uintptr)

//go:linkname breakpoint breakpoint
//go:nosplit
func breakpoint()

//go:linkname stackTop stack_top
//go:nosplit
func stackTop() uintptr

//go:linkname picture picture
//go:nosplit
func picture() (*byte, uint64)
