// Package machine is what the supervisor knows of the processor and of the image it is
// part of: a thread's registers, system registers, page table upkeep, the interrupt
// controller, and the table that boot code leaves.
//
// Functions without a body are routines of templates/supervisor.s.j2.
package machine

import _ "unsafe" // for go:linkname

// A Context is the registers of a thread that is not running. templates/supervisor.s.j2
// knows where each lies.
type Context struct {
	X          [31]uint64
	SP, PC     uint64
	State      uint64 // PSTATE, as SPSR_EL1 has it
	FPSR, FPCR uint64
	V          [64]uint64 // v0 to v31, two words each
}

// Arm ARM, SPSR_EL1.
const (
	Program   = 0x304 // the program's PSTATE: EL1 on SP_EL0, interrupts on, debug exceptions and SError off
	Condition = 0xf0000000
)

// Kinds of interrupt controller.
const (
	NoController = iota
	GICv2
	BCM2836
)

// Kinds of sources of random numbers.
const (
	NoEntropy = iota
	Virtio
	BCM2835
)

// A Table is what the supervisor is told, as supervisor.table has it.
type Table struct {
	Size        uintptr // bytes in the table, this word included
	Translation uintptr // the level 1 page table boot code turned on
	Entry       uintptr // of the program: runtime.rt0_go
	Archive     uintptr // of the program: runtime.isarchive, a byte
	Controller  uintptr // kind of interrupt controller
	Distributor uintptr
	CPU         uintptr // the GIC's CPU interface
	Timer       uintptr // the virtual timer's interrupt
	RTC         uintptr // a PL031, or 0
	Entropy     uintptr // kind of source of random numbers
	EntropyBase uintptr
	Arguments   Strings
	Environment Strings
	StringsEnd  uintptr
	Board       uintptr // the devices, as text: a line for each
	BoardEnd    uintptr
	Counts      uintptr // of the program's barriers, as templates/counting.s.j2 has them, or 0
	CountsEnd   uintptr // where the count is of those that are in none of them
	Data        Span    // of the program, what it may write, in whole pages: bytes it begins with
	Zeros       Span    // and zeros
	Pristine    uintptr // where those bytes are kept as they were, or 0
	Given       uintptr // what this boot alone is given, or 0: a bundle, on a page of its own at the end of RAM
}

// A Span is neighbouring bytes of memory. How far its first byte, and the one behind its last, are from the top of all
// addresses is what is kept: no claim takes that for a pointer to what lies there.
type Span struct {
	fromTop, endFromTop uintptr
}

// Low is the address of its first byte.
func (s Span) Low() uintptr {
	return -s.fromTop
}

// Size is how many bytes it has.
func (s Span) Size() uintptr {
	return s.fromTop - s.endFromTop
}

// Has tells whether place is in it.
func (s Span) Has(place uintptr) bool {
	return place+s.fromTop < s.Size()
}

// Strings are zero-terminated strings, one behind another.
type Strings struct {
	Count uintptr
	First uintptr
}

// Start goes on with the thread first, on another stack, and has trap called at each exception.
//
//go:linkname Start supervisor.start
//go:noescape
func Start(first *Context, trap func(context *Context, kind, syndrome, address uint64) *Context)

// Trampoline is the address of code that calls rt_sigreturn.
//
//go:linkname Trampoline supervisor.trampoline
func Trampoline() uintptr

// Wait stops the core until an interrupt is pending.
//
//go:linkname Wait supervisor.wait
func Wait()

// Counter is the count of the generic timer.
//
//go:linkname Counter supervisor.counter
func Counter() uint64

// Frequency is how often a second it counts.
//
//go:linkname Frequency supervisor.frequency
func Frequency() uint64

// Alarm has the timer interrupt when the count is at.
//
//go:linkname Alarm supervisor.alarm
func Alarm(at uint64)

// Features is ID_AA64ISAR0_EL1.
//
//go:linkname Features supervisor.features
func Features() uint64

// Random is a number of the processor's generator, which it must have; 0 if it has none now.
//
//go:linkname Random supervisor.random
func Random() uint64

// Translate turns on the page tables whose level 1 is at table.
//
//go:linkname Translate supervisor.translate
func Translate(table uintptr)

// Published lets entries be used that were made in the place of invalid ones.
//
//go:linkname Published supervisor.published
func Published()

// Forget has the core forget how it translated address.
//
//go:linkname Forget supervisor.forget
func Forget(address uintptr)

// ForgetAll has it forget how it translated anything.
//
//go:linkname ForgetAll supervisor.forget_all
func ForgetAll()

// Reaches tells whether an access to address would fault as things are.
//
//go:linkname Reaches supervisor.reaches
func Reaches(address uintptr, write bool) bool

// Clear fills the page of memory at page with zeros.
//
//go:linkname Clear supervisor.clear
func Clear(page uintptr)

// Fetchable has what was written to the page of memory at page fetched as instructions.
//
//go:linkname Fetchable supervisor.fetchable
func Fetchable(page uintptr)

// Exit ends the run.
//
//go:linkname Exit buildsys.exit
func Exit(status int32)
