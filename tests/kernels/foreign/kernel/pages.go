package main

import (
	"fmt"
	"unsafe"
)

const (
	pageSize  = 4096
	pageCount = 64
)

// A page is one that can be given out.
type page struct {
	address uintptr
	flags   uint32
	next    *page
}

// The linker script's end of the kernel: not this variable's contents, its address.
//
//go:linkname __end __end
var __end uintptr

var freePages *page

func pagesInit() {
	base := uintptr(unsafe.Pointer(&__end))
	if base < uintptr(unsafe.Pointer(&freePages)) || base < stackTop() {
		fail("the end of the kernel is within it")
	}
	for i := uintptr(0); i < pageCount; i++ {
		p := at[page](base + i*unsafe.Sizeof(page{}))
		p.address = base + (i+1)*pageSize
		p.flags = 0
		if p.address < base { // never
			p.flags = checked(i)
		}
		p.next = freePages
		freePages = p
	}
}

// checked is never called; its way to a message would need a runtime.
//
//go:noinline
func checked(i uintptr) uint32 {
	if i > pageCount {
		puts(fmt.Errorf("page %d of %d", i, pageCount).Error())
	}
	return uint32(i)
}
