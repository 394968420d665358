// The reference kernel: it proves, on the machine, that Go code compiled by the stock
// compiler works with the write barrier on and its calls redirected.
//
// Boot code calls KernelMain with the write barrier flag set, and nothing else of the
// Go runtime started: no garbage collector, no allocator, no goroutines, no package
// initialisers. So the kernel allocates nothing through the compiler, and its globals
// are zero or static data.
//
// What is stored through a barrier is read back by package memory. Reading it in Go
// would prove nothing: the compiler knows what it stored and answers from a register.
package main

import (
	"kernel/board"
	"kernel/semihosting"
	"kernel/uart"
)

// main is never run: an archive's main is the host program's. It is the reason the
// linker keeps KernelMain.
func main() {
	KernelMain(nil)
}

// KernelMain is the entry function. It exits with status 0 if every check passed, else
// with 1; the status is also its result, for a board that cannot exit.
//
//go:noinline
func KernelMain(table *board.Table) int32 {
	status := int32(1)
	if table != nil && table.HasUART() { // else there is no port to say why
		console := uart.At(table.UART)
		status = run(table, console)
		console.Drain()
	}
	semihosting.Exit(status)
	return status
}

// run makes every check in turn and gives the exit status. What all others stand on
// ends the run if it fails; the others report and go on. The console is passed along,
// not a global, so that a kernel whose globals cannot be written can say so.
func run(table *board.Table, console uart.Port) int32 {
	if !table.Matches() {
		console.Puts("ERROR: The board table is ")
		console.PutDecimal(uint64(table.Size))
		console.Puts(" bytes, not what this kernel was built for!\r\n")
		return 1
	}
	console.Puts("Testing write barrier...\r\n")
	if !checkFlag(table, console) {
		return 1
	}
	// Before any other pointer is stored: a barrier that leaves x25 wrong has its
	// caller write wherever x25 points, except here, where it points to a canary.
	slots := checkSlots(table)
	if slots == "" && (!checkGlobalPointer(table, console) || !initHeap(table, console)) {
		return 1
	}

	results := tally{console: console}
	results.report("slots: a barrier has its caller write to no one's memory", slots)
	if slots != "" {
		return results.verdict()
	}
	results.report("barriers: 1 to 8 pointers recorded at once, all stored", checkBarriers())
	results.report("registers: a barrier keeps its caller's", checkRegisters())
	results.report("linked list: head and tail are globals, every node in its place", checkList())
	results.report("copies: whole structs and arrays moved and cleared", checkCopies())
	results.report("interfaces: methods and types of what was stored", checkInterfaces())
	results.report("slices: stored, moved along their array, written through", checkSlices())
	results.report("heap: 4000 operations, no block touched another, one segment left", checkHeap())
	return results.verdict()
}

// A tally reports checks on a console and counts them.
type tally struct {
	console      uart.Port
	made, failed int
}

// report prints one line for a check: its claim, and the fault if it found one.
func (t *tally) report(claim, fault string) {
	t.made++
	if fault == "" {
		t.console.Puts("ok   ")
		t.console.Puts(claim)
	} else {
		t.failed++
		t.console.Puts("FAIL ")
		t.console.Puts(claim)
		t.console.Puts(": ")
		t.console.Puts(fault)
	}
	t.console.Puts("\r\n")
}

// verdict prints the last lines and gives the exit status.
func (t *tally) verdict() int32 {
	println("println:", t.made, "checks,", t.failed, "failed,", t.failed == 0)
	if t.failed != 0 {
		t.console.Puts("ERROR: ")
		t.console.PutDecimal(uint64(t.failed))
		t.console.Puts(" of ")
		t.console.PutDecimal(uint64(t.made))
		t.console.Puts(" checks failed!\r\n")
		return 1
	}
	t.console.Puts("All tests passed! Exiting via semihosting...\r\n")
	return 0
}
