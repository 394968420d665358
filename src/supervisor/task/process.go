package task

import (
	"unsafe"

	"kernel/memory"
	"kernel/supervisor/files"
	"kernel/supervisor/machine"
	"kernel/supervisor/space"
)

// A Process is a program's run: the first one's is that of the machine, others are its children, and theirs.
type Process struct {
	ID       uint64
	Parent   *Process
	ParentID uint64
	Space    *space.Space
	Files    *files.Table
	Actions  [signals]Action // what is to be done at each signal
	Status   uint32          // once it is Ended: as wait4 gives it
	Ended    bool            // and nobody has waited for it yet
	Ran      uint64          // how long it ran, until it was in use last: counts of the counter
	Reaped   uint64          // and all children that it waited for, and theirs
	lender   *Thread         // of the parent, which waits while this process has its memory
	exit     uint64          // the signal its parent gets
	alive    int             // threads
	pending  uint64          // signals that no thread could take
	sent     [signals]info
}

const mostProcesses = 64

var (
	processes [mostProcesses]*Process
	running   *Process // whose memory and files are in use
	since     uint64   // when they came into use, but for when nothing ran: a count of the counter
)

// First is the first process, with its thread; nil if there is no RAM for them. The first space and the first files
// are in use.
func First() *Thread {
	process := newProcess()
	if process == nil {
		return nil
	}
	process.Space, process.Files = space.Current(), files.Current()
	running, since = process, machine.Counter()
	thread := New(process)
	if thread != nil {
		process.ID = thread.ID
	}
	return thread
}

// newProcess is one that has nothing yet; nil if there can be no more.
func newProcess() *Process {
	for at := range processes {
		if processes[at] == nil {
			if unsafe.Sizeof(Process{}) > space.PageSize {
				return nil
			}
			page := space.Frame()
			if page == 0 {
				return nil
			}
			processes[at] = memory.At[Process](page)
			return processes[at]
		}
	}
	return nil
}

// Enter has the process's memory and files in use.
func (p *Process) Enter() {
	if p != running {
		p.enter()
	}
}

//go:noinline
func (p *Process) enter() {
	now := machine.Counter()
	running.Ran += now - since
	since = now
	running = p
	p.Space.Enter()
	p.Files.Enter()
}

// Idled tells that nothing ran so long.
func Idled(counts uint64) {
	since += counts
}

// Lend is a new process, a child of the one that runs, with its thread, which is as the one given; the two have one
// memory until the child calls execve or ends, and so long the thread given waits. nil if there can be no more.
func (t *Thread) Lend(exit uint64) *Thread {
	process := newProcess()
	if process == nil {
		return nil
	}
	parent := t.Process
	if process.Files = parent.Files.Copy(); process.Files == nil {
		process.release()
		return nil
	}
	made := New(process)
	if made == nil {
		process.Files.Leave()
		process.release()
		return nil
	}
	process.ID, process.Space = made.ID, parent.Space.Share()
	process.Parent, process.ParentID = parent, parent.ID
	process.Actions, process.lender, process.exit = parent.Actions, t, exit
	made.Inherit(t)
	made.alternate = t.alternate
	t.State = Lending
	return made
}

// Begun ends the loan of memory, if there is one.
func (p *Process) Begun() {
	if p.lender != nil {
		p.lender.Return(int64(p.ID))
		p.lender = nil
	}
}

// Alone ends all threads of a process but one.
func (t *Thread) Alone() {
	for _, other := range threads[:highest] {
		if other.Process == t.Process && other != t && other.State != none {
			other.State = none
		}
	}
	t.Process.alive = 1
	t.Process.forgive()
}

// forgive forgets who waits for children that have the process's memory: those threads are no more.
func (p *Process) forgive() {
	for _, child := range processes {
		if child != nil && child.Parent == p {
			child.lender = nil
		}
	}
}

// Exec gives the process that runs another memory, in which nothing is yet, and takes from it and its thread what execve
// does: other threads, handlers, descriptors that are to be closed.
func (t *Thread) Exec(made *space.Space) {
	process := t.Process
	t.Alone()
	t.ID = process.ID
	old := process.Space
	process.Space = made
	old.Leave()
	made.Enter()
	process.Files.CloseMarked()
	for at := range process.Actions {
		if process.Actions[at].Handler != ignored {
			process.Actions[at] = Action{}
		}
	}
	t.alternate, t.tidAddress = alternate{}, 0
	process.Begun()
}

// End ends the process that runs; what it has is given back. Its parent may wait for it. Another is to be chosen to run.
func (p *Process) End(status uint32) {
	for _, thread := range threads[:highest] {
		if thread.Process == p {
			thread.State = none
		}
	}
	p.alive = 0
	p.forgive()
	p.Files.Leave()
	p.Space.Leave()
	first := processes[0]
	first.Enter()
	p.Begun()
	for at := range processes {
		if child := processes[at]; child != nil && child.Parent == p {
			child.Parent, child.ParentID = first, first.ID
			if child.Ended {
				child.tell()
			}
		}
	}
	p.Status, p.Ended = status, true
	p.tell()
}

// What siginfo_t says of a child: include/uapi/asm-generic/siginfo.h; of an action: signal.h.
const (
	Exited      = 1 // CLD_EXITED
	Killed      = 2 // CLD_KILLED
	noChildWait = 2 // SA_NOCLDWAIT
)

// Cause is why a process ended, and its exit status or the signal's number.
func (p *Process) Cause() (int32, uint32) {
	if signal := p.Status & 0x7f; signal != 0 {
		return Killed, signal
	}
	return Exited, p.Status >> 8
}

// tell has the parent know that a process ended. A parent that ignores that does not wait, either.
func (p *Process) tell() {
	action := &p.Parent.Actions[SIGCHLD]
	if action.Handler == ignored || action.Handler != byDefault && action.Flags&noChildWait != 0 {
		p.release()
		return
	}
	if p.exit != 0 {
		cause, _ := p.Cause()
		p.Parent.Send(p.exit, cause, p.ID)
	}
	Woken = true
}

// Reap gives back what is left of a process that ended.
func (p *Process) Reap() {
	p.Parent.Reaped += p.Ran + p.Reaped
	p.release()
}

// Used is how long the process that runs ran, in counts of the counter.
func (p *Process) Used() uint64 {
	return p.Ran + machine.Counter() - since
}

func (p *Process) release() {
	for at := range processes {
		if processes[at] == p {
			processes[at] = nil
			space.Release(uintptr(unsafe.Pointer(p)))
		}
	}
}

// Child is a child of a process that has ended, of that ID or, if it is 0, any; and whether there are such children,
// ended or not.
func (p *Process) Child(id uint64) (*Process, bool) {
	are := false
	for at := range processes {
		if child := processes[at]; child != nil && child.Parent == p && (id == 0 || child.ID == id) {
			if child.Ended {
				return child, true
			}
			are = true
		}
	}
	return nil, are
}

// Known is the process of that ID, or nil.
func Known(id uint64) *Process {
	for at := range processes {
		if process := processes[at]; process != nil && process.ID == id {
			return process
		}
	}
	return nil
}

// Send has one of the process's threads get a signal, from the process of ID sender.
func (p *Process) Send(signal uint64, code int32, sender uint64) {
	if p.Ended {
		return
	}
	if _, counts := p.wants(signal); !counts {
		return
	}
	if t := Current; t.Process == p && t.State != none && t.Blocked>>(signal-1)&1 == 0 && signal != SIGKILL {
		t.Send(signal, code, sender)
		return
	}
	sent := false
	for _, thread := range threads[:highest] {
		if thread.Process == p && thread.State != none && thread.Blocked>>(signal-1)&1 == 0 {
			thread.Send(signal, code, sender)
			if sent = true; signal != SIGKILL { // whichever runs next ends the process
				return
			}
		}
	}
	if sent {
		return
	}
	p.pending |= 1 << (signal - 1)
	p.sent[signal] = info{code, sender}
}

// take gives a thread those of the signals no thread could take that it does not block.
func (p *Process) take(by *Thread) {
	for signal := uint64(1); signal < signals; signal++ {
		if bit := uint64(1) << (signal - 1); p.pending&^by.Blocked&bit != 0 {
			p.pending &^= bit
			by.pending |= bit
			by.sender[signal] = p.sent[signal]
		}
	}
}

// SendAll has every process get one, from the process that runs; or all but that and the first.
func SendAll(signal, sender uint64, every bool) {
	for at := range processes {
		if process := processes[at]; process != nil && (every || at > 0 && process != running) {
			process.Send(signal, 0, sender)
		}
	}
}
