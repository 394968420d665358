// Package main fails in every way a bare kernel can, and in some lies about it. The second
// argument of the entry says how: boot code is given it by `entry-arguments`.
package main

import (
	"unsafe"

	"kernel/board"
	"kernel/memory"
	"kernel/semihosting"
	"kernel/uart"
)

// Ways to fail; tests/zoo/animals.toml says what is to be told of each.
const (
	fine = iota
	nilRead
	nilWrite
	nilCall
	flashStore
	codeStore
	beyondRAM
	belowCode
	noDevice
	stackOverflow
	unchecked
	nilJump
	misalignedPC
	unaligned
	unalignedNoMMU
	undefined
	breakpoint
	systemCall
	noFloat
	dataAsCode
	smashed
	ownPanic
	index
	sleeps
	loops
	wildBuffer
	blocks
	brokenStack
	noVectors
	starts
	resets
	poweredOff
	trap
	quietPanic
	status
	lastLine
	nested
	overrun
	turnedOff
	talks
	exceptionOverflow
	reportOverflow
	batchOverflow
	leaps
	uncheckedNoMMU
)

// main is never run. It is the reason that Go keeps what only assembly and redirects name.
func main() {
	KernelMain(nil, 0)
	quiet(nil)
	deeply(nil)
}

var (
	number  int
	pointer *point
	action  func()
	table   [4]int
	deep    *point
)

type point struct{ x, y int }

// KernelMain is what boot code calls.
//
//go:noinline
func KernelMain(given *board.Table, which uintptr) int32 {
	console := uart.At(given.UART)
	console.Puts("the zoo: ")
	console.PutDecimal(uint64(which))
	console.Puts("\r\n")
	console.Drain()
	return fail(given, console, which)
}

//go:noinline
func fail(given *board.Table, console uart.Port, which uintptr) int32 {
	switch which {
	case nilRead:
		number = pointer.y
	case nilWrite:
		pointer.y = 1
	case nilCall:
		action()
	case flashStore:
		store(given.Flash.End-0x10, 1)
	case codeStore:
		store(**(**uintptr)(unsafe.Pointer(&storing)), 1)
	case beyondRAM:
		number = int(load(given.RAM.End + 0x40))
	case belowCode:
		store(given.Flash.Low+0x2000, 1)
	case noDevice:
		number = int(load(given.UART + 0x2000000))
	case stackOverflow:
		number = recurse(int(given.Size) << 20)
	case ownPanic:
		panic("a kernel's own")
	case index:
		number = table[given.Size]
	case blocks:
		select {}
	case loops:
		for {
			number++
		}
	case wildBuffer:
		deep = pointer
	case quietPanic:
		panic("nobody hears it")
	case status:
		return 7
	case turnedOff:
		memory.Store32(given.UART+0x30, 0) // PL011 TRM 3.3.8 UARTCR
		console.PutByte('!')
	case talks:
		for at := uintptr(0); at < 8000; at++ {
			console.PutDecimal(uint64(at))
			console.Puts("\r\n")
		}
	case reportOverflow:
		panic(bottomless{})
	case batchOverflow:
		for at := 0; at < 100; at++ {
			deep = pointer
		}
	case lastLine:
		console.Puts("the last line has no end")
	case fine:
		return 0
	default:
		inAssembly(which)
	}
	return 0
}

var storing = store // a function value, which points to where its code is told

//go:noinline
func store(address, value uintptr) { *(*uintptr)(unsafe.Pointer(address)) = value }

//go:noinline
func load(address uintptr) uintptr { return *(*uintptr)(unsafe.Pointer(address)) }

//go:noinline
func recurse(n int) int {
	if n == 0 {
		return 1
	}
	return recurse(n-1)*3 + n
}

// quiet takes the place of a panic, in one of the ways, and says that all is well.
//
//go:noinline
func quiet(value any) {
	semihosting.Exit(0)
	for {
	}
}

// bottomless is an error that needs more stack than there is to say what it is.
type bottomless struct{}

func (bottomless) Error() string {
	inAssembly(unchecked)
	return ""
}

type entry struct {
	caller, count uintptr
	slots         [8]uintptr
}

// deeply is given batches of what barriers recorded, and runs off its stack.
//
//go:noinline
func deeply(batch []entry) {
	inAssembly(unchecked)
}

// inAssembly is in asm/zoo.s.
//
//go:linkname inAssembly zoo.fail
func inAssembly(which uintptr)
