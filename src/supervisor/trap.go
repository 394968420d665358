package main

import (
	"kernel/supervisor/files"
	"kernel/supervisor/machine"
	"kernel/supervisor/space"
	"kernel/supervisor/task"
)

// Times in nanoseconds.
const (
	slice    = 4_000_000 // how long a thread runs while others are ready
	shortest = 50_000    // alarms are no nearer, as with Linux's timer slack
	listen   = 1_000_000 // how often input is looked for while a thread waits for it
)

// Arm ARM, ESR_EL1: exception classes.
const (
	classUnknown     = 0x00
	classIllegal     = 0x0e
	classCall        = 0x15
	classInstruction = 0x21 // instruction abort, same level
	classPC          = 0x22
	classData        = 0x25 // data abort, same level
	classSP          = 0x26
	classFloat       = 0x2c
	classBreak       = 0x3c

	abortWrite     = 1 << 6 // ISS of a data abort: WnR
	abortAlignment = 0x21   // fault status code
)

// Codes of siginfo_t: include/uapi/asm-generic/siginfo.h.
const (
	codeUnmapped  = 1 // SEGV_MAPERR
	codeForbidden = 2 // SEGV_ACCERR
	codeAlignment = 1 // BUS_ADRALN
	codeIllegal   = 1 // ILL_ILLOPC
	codeBreak     = 1 // TRAP_BRKPT
	codeFloat     = 0
)

// trap is called at every exception of the program, with the registers of the thread that ran; it returns those of
// the thread to go on with. kind is 1 for an interrupt.
//
//go:noinline
func trap(context *machine.Context, kind, syndrome, address uint64) *machine.Context {
	thread := task.Current
	if kind != 0 {
		if id := table.Acknowledge(); id != table.Timer {
			files.Interrupted(id)
		}
		return resume(choose())
	}
	class := syndrome >> 26
	if class == classCall { // by far the most
		serve(thread)
	} else if class == classData {
		fault(thread, class, syndrome, address)
	} else {
		failed(thread, class, syndrome, address)
	}
	if thread.State != task.Ready || yielded {
		yielded = false
		thread = choose()
	} else if task.Woken {
		task.Woken = false
		if now := machine.Counter(); now+clock.Counts(slice) < alarmed {
			alarm(now, now+clock.Counts(slice))
		}
	}
	return resume(thread)
}

// failed is what other exceptions are to a thread.
func failed(thread *task.Thread, class, syndrome, address uint64) {
	switch class {
	case classInstruction:
		fault(thread, class, syndrome, address)
	case classUnknown, classIllegal:
		raise(thread, task.SIGILL, codeIllegal, thread.Context.PC)
	case classBreak:
		raise(thread, task.SIGTRAP, codeBreak, thread.Context.PC)
	case classFloat:
		raise(thread, task.SIGFPE, codeFloat, thread.Context.PC)
	case classPC, classSP:
		raise(thread, task.SIGBUS, codeAlignment, address)
	default:
		console.Puts("supervisor: an exception of class ")
		console.PutHex(class)
		console.Puts("\r\n")
		raise(thread, task.SIGILL, codeIllegal, thread.Context.PC)
	}
}

// yielded tells that the current thread can go on, and lets others go first.
var yielded bool

// resume is a thread about to run, with signals it gets.
func resume(thread *task.Thread) *machine.Context {
	if thread.HasSignal() {
		thread = signalled(thread)
	}
	return &thread.Context
}

// signalled is the thread to go on with where one has signals it gets: another if these end its process.
func signalled(thread *task.Thread) *task.Thread {
	for signal := thread.Deliver(); signal != 0; signal = thread.Deliver() {
		killed(thread, signal)
		thread = choose()
	}
	return thread
}

// choose is the thread that is to run now, after waiting for one if there is none.
func choose() *task.Thread {
	for {
		now := machine.Counter()
		thread, earliest, others := task.Next(now, serve)
		if listening {
			earliest = least(earliest, now+clock.Counts(listen))
			listening = false
		}
		if thread != nil {
			if others {
				earliest = least(earliest, now+clock.Counts(slice))
			}
			alarm(now, earliest)
			thread.Process.Enter()
			task.Current, task.Woken = thread, false
			return thread
		}
		if earliest == task.Never {
			end(uint64(fail("every thread waits, and nothing can wake them")))
		}
		alarm(now, earliest)
		if table.HasTimer() {
			machine.Wait()
			task.Idled(machine.Counter() - now)
		}
	}
}

// listening tells that a thread waits for input.
var listening bool

// alarmed is when the next interrupt comes.
var alarmed uint64

func alarm(now, at uint64) {
	if soonest := now + clock.Counts(shortest); at < soonest {
		at = soonest
	}
	alarmed = at
	machine.Alarm(at)
}

func least(one, other uint64) uint64 {
	if one < other {
		return one
	}
	return other
}

// fault gives the thread the page it touched, or the signal it earned.
func fault(thread *task.Thread, class, syndrome, address uint64) {
	if syndrome&0x3f == abortAlignment {
		raise(thread, task.SIGBUS, codeAlignment, address)
		return
	}
	rights := uintptr(space.Read)
	if class == classInstruction {
		rights = space.Execute
	} else if syndrome&abortWrite != 0 {
		rights = space.Write
	}
	switch space.Touch(uintptr(address), rights) {
	case space.Unmapped:
		code := int32(codeUnmapped)
		if syndrome&0x3c == permissionFault {
			code = codeForbidden
		}
		raise(thread, task.SIGSEGV, code, address)
	case space.Forbidden:
		raise(thread, task.SIGSEGV, codeForbidden, address)
	case space.Exhausted:
		exhausted(thread)
	}
}

const permissionFault = 0x0c // fault status code of a permission fault, without its level

// exhausted ends a process that touched memory when no page of RAM was left, as Linux does.
func exhausted(thread *task.Thread) {
	if isFirst(thread) {
		console.Puts("supervisor: out of memory: all ")
		console.PutDecimal(uint64(space.Total()))
		console.Puts(" pages of RAM are in use\r\n")
	}
	endBy(thread, task.SIGKILL)
}

func raise(thread *task.Thread, signal uint64, code int32, address uint64) {
	if ends := thread.Raise(signal, code, address); ends != 0 {
		if isFirst(thread) {
			console.Puts("supervisor: ended by signal ")
			console.PutDecimal(ends)
			console.Puts(" at ")
			console.PutHex(thread.Context.PC)
			console.Puts(", address ")
			console.PutHex(address)
			console.Puts("\r\n")
		}
		endBy(thread, ends)
	}
}

// killed ends a process that gets a signal it does not handle.
func killed(thread *task.Thread, signal uint64) {
	if isFirst(thread) {
		console.Puts("supervisor: ended by signal ")
		console.PutDecimal(signal)
		console.Puts("\r\n")
	}
	endBy(thread, signal)
}
