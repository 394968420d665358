// Package main is a kernel in the style of those that a Makefile, a boot.s and a lib.s build.
package main

import "unsafe"

// greeting is given to KernelMain by its address.
var greeting = [3]byte{'h', 'i', '!'}

var version = "none" // set by the linker

type segment struct {
	next, previous *segment
	size           uint64
}

var heapSegmentListHead *segment

func main() {
	KernelMain(0, 0, nil)
	keep()
}

// KernelMain is called by boot code with three arguments.
//
//go:noinline
func KernelMain(seven uint32, minusOne int64, words *[3]byte) int32 {
	initStubs()
	puts("booted by ")
	puts(way)
	puts(", version ")
	puts(version)
	puts("\r\n")
	if seven != 7 || minusOne != -1 || words != &greeting || words[0] != 'h' {
		return fail("the arguments")
	}
	if readWord(0x40026b40) == 0 {
		return fail("the flag")
	}
	const heapStart = 0x43000000
	heapSegmentListHead = at[segment](heapStart)
	bzero(heapStart, uint32(unsafe.Sizeof(segment{})))
	heapSegmentListHead.size = 1 << 20
	if call_back(20) != 41 || calls != 1 || last != 41 {
		return fail("assembly and Go")
	}
	framebufferInit()
	if screen.draw(logo()) != 33 {
		return fail("the picture")
	}
	if configAddress(1, 2, 3, 4) != 0x3f113004 {
		return fail("PCI")
	}
	puts("all is well\r\n")
	return 0
}

func fail(what string) int32 {
	puts("ERROR: ")
	puts(what)
	puts("\r\n")
	return 1
}
