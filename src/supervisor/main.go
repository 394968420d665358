// Package main is the supervisor of a program: a bare kernel that serves an ordinary Go
// program, linked into the same image, what Go's runtime asks of Linux on arm64.
//
// The program runs at EL1 on SP_EL0; its system calls, its faults and the timer's
// interrupts are exceptions, each a call of trap. There is no collector, no goroutine and
// no initialiser here: nothing may allocate.
package main

import (
	"unsafe"

	"kernel/board"
	"kernel/memory"
	"kernel/supervisor/entropy"
	"kernel/supervisor/files"
	"kernel/supervisor/machine"
	"kernel/supervisor/space"
	"kernel/supervisor/task"
	"kernel/uart"
)

const (
	stackBytes  = 8 << 20 // of the first thread, as Linux has it; only what is touched is there
	guardBytes  = 1 << 20 // below it nothing is ever put, as with Linux's stack_guard_gap
	statusFatal = 125     // the supervisor itself cannot go on
)

var (
	table   *machine.Table
	console uart.Port
	clock   machine.Clock
)

// main is never run. It is the reason that Go keeps KernelMain.
func main() {
	KernelMain(nil, nil)
}

// KernelMain is what boot code calls.
//
//go:noinline
func KernelMain(machineBoard *board.Table, told *machine.Table) int32 {
	table, console = told, uart.At(machineBoard.UART)
	if told.Size != unsafe.Sizeof(machine.Table{}) || !machineBoard.Matches() {
		return fail("boot code and the supervisor disagree on their tables")
	}
	seconds := uint64(0)
	if told.RTC != 0 {
		seconds = uint64(memory.Load32(told.RTC)) // PL031 TRM (DDI 0224) 3.3.1, RTCDR
	}
	clock = machine.NewClock(machine.Frequency(), machine.Counter(), seconds)
	end, sound := take(told, machineBoard.Heap)
	if !sound {
		return fail("what this boot was given is damaged")
	}
	if !space.Init(told, machineBoard.Heap.Low, end) {
		return fail("there is no RAM for a program")
	}
	entropy.Init(told, seconds, space.Frame)
	if !files.Init(machineBoard.UART, told, entropy.Fill, wall) || !files.InitTree() {
		return fail("there is no RAM for files")
	}
	if !plant() || !files.InitExecutable(zeroEnded(given.arguments.First)) {
		return fail("the files this boot was given do not fit in RAM")
	}
	first := task.First()
	if first == nil || !prepare(first, words{
		arguments:   given.arguments.Count,
		environment: given.environment.Count,
		bytes:       given.stringsEnd - given.arguments.First,
		from:        given.arguments.First,
	}) {
		return fail("the program's arguments and environment do not fit in RAM")
	}
	task.Current, first.State = first, task.Ready
	if told.HasTimer() {
		told.EnableTimer()
		now := machine.Counter()
		alarm(now, now+clock.Counts(slice))
	}
	machine.Start(&first.Context, trap)
	return statusFatal
}

// wall is the time since 1970, in nanoseconds.
func wall() uint64 {
	return clock.Wall(machine.Counter())
}

// fail says why the supervisor cannot go on; it returns the status to exit with.
func fail(why string) int32 {
	console.Puts("supervisor: ")
	console.Puts(why)
	console.Puts("\r\n")
	sign(statusFatal)
	console.Drain()
	return statusFatal
}

// end ends the run; it says what the program asked for that it could not have.
func end(status uint64) {
	reportUnknown()
	sign(status & 0xff)
	console.Drain()
	machine.Exit(int32(status & 0xff))
}

// Kinds of entries in the vector of auxiliary values: include/uapi/linux/auxvec.h.
const (
	auxPageSize = 6
	auxHwcap    = 16
	auxRandom   = 25
	auxSecure   = 23
)

// prepare gives the only thread of a process its stack, with arguments, environment and auxiliary vector as Linux
// leaves them, and has it begin at the program's entry; it tells whether there was room. The process is the one that
// runs.
func prepare(first *task.Thread, told words) bool {
	top := uintptr(space.End)
	low := top - stackBytes
	if space.Map(low, top, space.Read|space.Write) != 0 || space.Map(low-guardBytes, low, space.None) != 0 {
		return false
	}
	count := 1 + told.arguments + 1 + told.environment + 1 + 2*5
	low = (top - told.bytes - 16 - 8*count) &^ 15
	if !space.TouchAll(low, top-low, space.Write) || !space.TouchAll(table.Archive, 1, space.Write) {
		return false
	}
	at := low
	push := func(word uint64) {
		memory.Store64(at, word)
		at += 8
	}
	text := top - told.bytes
	told.copyTo(text)
	random := text - 16
	random &^= 15
	entropy.Fill(random, 16)

	push(uint64(told.arguments))
	place := text
	for _, each := range [2]uintptr{told.arguments, told.environment} {
		for left := each; left > 0; left-- {
			push(uint64(place))
			for memory.Load8(place) != 0 {
				place++
			}
			place++
		}
		push(0)
	}
	push(auxPageSize)
	push(space.PageSize)
	push(auxHwcap)
	push(capabilities())
	push(auxRandom)
	push(uint64(random))
	push(auxSecure)
	push(0)
	push(0)
	push(0)

	memory.Store8(table.Archive, 0) // in an archive the runtime does not call main.main
	context := &first.Context
	context.X[0], context.X[1] = uint64(told.arguments), uint64(low)+8
	context.SP, context.PC, context.State = uint64(low), uint64(table.Entry), machine.Program
	return true
}

// capabilities is what Linux tells of the processor, AT_HWCAP: Documentation/arch/arm64/elf_hwcaps.rst,
// from the fields of Arm ARM, ID_AA64ISAR0_EL1.
func capabilities() uint64 {
	found := uint64(1<<0 | 1<<1) // floating point, SIMD
	features := machine.Features()
	for _, each := range capable {
		if features>>each.shift&0xf >= each.least {
			found |= 1 << each.bit
		}
	}
	return found
}

var capable = [...]struct{ shift, least, bit uint64 }{
	{4, 1, 3}, {4, 2, 4}, // AES, PMULL
	{8, 1, 5}, {12, 1, 6}, {12, 2, 21}, // SHA1, SHA2, SHA512
	{16, 1, 7}, {20, 2, 8}, // CRC32, atomics
}

func copyBytes(to, from, length uintptr) {
	copy(bytesAt(to, length), bytesAt(from, length))
}

// bytesAt is memory as a slice; it must be there.
func bytesAt(address, length uintptr) []byte {
	return unsafe.Slice(memory.At[byte](address), length)
}

func zero(address, length uintptr) {
	bytes := bytesAt(address, length)
	for at := range bytes {
		bytes[at] = 0
	}
}

// stringAt is memory as a string; it must be there.
func stringAt(address, length uintptr) string {
	bytes := bytesAt(address, length)
	return *(*string)(unsafe.Pointer(&bytes)) // a string is a slice without a capacity
}
