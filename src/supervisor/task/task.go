// Package task is the program's threads, and the signals they get.
package task

import (
	"kernel/memory"
	"kernel/supervisor/machine"
	"kernel/supervisor/space"
)

// What a thread does.
const (
	none    = iota
	Ready   // it can run
	Futex   // it waits to be woken at an address, or for its deadline
	Sleep   // it waits for its deadline
	Calling // its system call could not be done yet; it is to be called again, at the deadline for the last time
	Lending // its process lends its memory to a child that it made by vfork
)

// A Thread is one of the program's. Context comes first: it is what the assembly knows.
type Thread struct {
	Context machine.Context
	ID      uint64
	State   uint64
	Process *Process
	// While it waits.
	Deadline uint64  // a count of the counter, or 0 for ever
	Word     uintptr // of a futex
	Blocked  uint64  // signals that have to wait, bit n-1 for signal n
	pending  uint64
	sender   [signals]info
	alternate
	tidAddress uintptr // cleared, and woken, when the thread ends
}

const mostThreads = 1024

var (
	threads [mostThreads]*Thread
	highest int // no thread has this index or a higher one
	lastID  uint64
	// Woken tells that a thread became ready while another runs, which is to run no longer than its share.
	Woken bool
	// Current is the thread that runs, or ran when the exception came.
	Current *Thread
	current int
)

// New is a thread of a process, not ready yet; nil if there can be no more.
func New(process *Process) *Thread {
	at := 0
	for at < mostThreads && threads[at] != nil && threads[at].State != none {
		at++
	}
	if at == mostThreads {
		return nil
	}
	thread := threads[at]
	if thread == nil {
		page := space.Frame()
		if page == 0 {
			return nil
		}
		thread = memory.At[Thread](page)
		threads[at] = thread
	} else {
		*thread = Thread{}
	}
	if at >= highest {
		highest = at + 1
	}
	lastID++
	process.alive++
	thread.ID, thread.State, thread.Process = lastID, Sleep, process
	return thread
}

// End ends a thread of the process that runs; it tells whether it was the last of it.
func (t *Thread) End() bool {
	if word := t.tidAddress; word != 0 && space.TouchAll(word, 4, space.Read|space.Write) {
		memory.Store32(word, 0)
		Wake(word, 1)
	}
	t.State = none
	t.Process.alive--
	return t.Process.alive == 0
}

// OnEnd has the word at address cleared when the thread ends.
func (t *Thread) OnEnd(address uintptr) {
	t.tidAddress = address
}

// Find is the thread of that ID, or nil.
func Find(id uint64) *Thread {
	for at := 0; at < highest; at++ {
		if threads[at].State != none && threads[at].ID == id {
			return threads[at]
		}
	}
	return nil
}

// Begin makes a new thread ready.
func (t *Thread) Begin() {
	t.State, Woken = Ready, true
}

// Return makes the thread ready, with the result of the system call it waited in.
func (t *Thread) Return(result int64) {
	t.Context.X[0] = uint64(result)
	t.State, t.Deadline, t.Word = Ready, 0, 0
	Woken = true
}

// Wake wakes up to most threads of the process that runs that wait at a futex; it returns how many.
func Wake(word uintptr, most uint64) int64 {
	woken := int64(0)
	for _, thread := range threads[:highest] {
		if uint64(woken) >= most {
			break
		}
		if thread.State == Futex && thread.Word == word && thread.Process.Space == running.Space {
			thread.Return(0)
			woken++
		}
	}
	return woken
}

// Errors, as Linux numbers them.
const (
	eINTR     = 4
	eTIMEDOUT = 110
)

// Never is later than any deadline.
const Never = 1<<64 - 1

// Next makes every thread ready that waited for something that is so now, and chooses, in turn, the one that is to
// run: nil if there is none. It returns the earliest deadline, and whether another thread is ready. Threads whose
// system call is to be tried again are passed to call.
func Next(now uint64, call func(*Thread)) (*Thread, uint64, bool) {
	var chosen *Thread
	earliest, others := uint64(Never), false
	from := current
	all := threads[:highest]
	for step := 1; step <= len(all); step++ {
		at := from + step
		if at >= len(all) {
			at -= len(all)
		}
		thread := all[at]
		if thread.State > Ready {
			thread.look(now, call)
		}
		if thread.State == Ready {
			if chosen == nil {
				chosen, current = thread, at
			} else {
				others = true
			}
		} else if thread.State != none && thread.Deadline != 0 && thread.Deadline < earliest {
			earliest = thread.Deadline
		}
	}
	return chosen, earliest, others
}

// look makes a waiting thread ready if it need not wait longer.
func (t *Thread) look(now uint64, call func(*Thread)) {
	if t.pending&^t.Blocked != 0 {
		if t.State != Lending {
			t.Return(-eINTR)
		}
		return
	}
	due := t.Deadline != 0 && now >= t.Deadline
	switch {
	case t.State == Calling:
		t.Process.Enter()
		call(t)
	case due && t.State == Futex:
		t.Return(-eTIMEDOUT)
	case due:
		t.Return(0)
	}
}
