package task

import (
	"unsafe"

	"kernel/memory"
	"kernel/supervisor/machine"
	"kernel/supervisor/space"
)

const signals = 65 // signals are numbered from 1 to 64

// Signals, as Linux numbers them: include/uapi/asm-generic/signal.h.
const (
	SIGILL  = 4
	SIGTRAP = 5
	SIGBUS  = 7
	SIGFPE  = 8
	SIGKILL = 9
	SIGSEGV = 11
	SIGCHLD = 17
	sigCONT = 18
	SIGSTOP = 19
	sigURG  = 23
	sigWINC = 28
)

// What a handler is if it is none.
const (
	byDefault = 0
	ignored   = 1
)

// Flags of an action and of an alternate stack.
const (
	onStack  = 0x08000000 // SA_ONSTACK
	noDefer  = 0x40000000 // SA_NODEFER
	restores = 0x04000000 // SA_RESTORER
	oneShot  = 0x80000000 // SA_RESETHAND
	OnStack  = 1          // SS_ONSTACK
	disabled = 2          // SS_DISABLE
)

// An Action is what is to be done at a signal: struct sigaction of the system call.
type Action struct {
	Handler  uintptr
	Flags    uint64
	Restorer uintptr
	Mask     uint64
}

// Where signal handlers run that ask for it: stack_t.
type alternate struct {
	stack uintptr
	flags uint64
	size  uintptr
}

// An info says why a signal came: the first words of siginfo_t.
type info struct {
	code    int32
	address uint64 // or the sender's IDs
}

// Source: arch/arm64/kernel/signal.c, include/uapi/asm/sigcontext.h, ucontext.h.
type frame struct {
	info     [16]uint64 // siginfo_t, 128 bytes
	flags    uint64     // struct ucontext
	link     uint64
	stack    uint64
	onStack  uint64
	size     uint64
	mask     uint64
	_        [16]uint64 // a mask has 1024 bits
	fault    uint64     // struct sigcontext, aligned to 16
	x        [31]uint64
	sp, pc   uint64
	state    uint64
	_        uint64
	magic    uint32 // struct fpsimd_context
	length   uint32
	fpsr     uint32
	fpcr     uint32
	v        [64]uint64
	_        [446]uint64 // the end of what else might be recorded: a record of magic 0
	previous [2]uint64   // x29 and x30, as a frame has them
}

const (
	fpsimdMagic  = 0x46508001
	fpsimdLength = 528
	infoBytes    = 128
	frameBytes   = unsafe.Sizeof(frame{})
)

// Send has the thread get a signal, from the process of ID sender.
func (t *Thread) Send(signal uint64, code int32, sender uint64) {
	if _, counts := t.Process.wants(signal); !counts {
		return
	}
	t.sender[signal] = info{code, sender}
	t.pending |= 1 << (signal - 1)
}

// wants is what is to be done at a signal, and whether anything is.
func (p *Process) wants(signal uint64) (Action, bool) {
	action := p.Actions[signal]
	if action.Handler == ignored {
		return action, false
	}
	if action.Handler == byDefault {
		switch signal {
		case SIGCHLD, sigCONT, sigURG, sigWINC:
			return action, false
		}
	}
	return action, true
}

// HasSignal tells whether a signal is pending that the thread does not block.
func (t *Thread) HasSignal() bool {
	return t.pending&^t.Blocked != 0
}

// Deliver has the thread, which is about to run, handle one signal that is pending. It returns the signal's number if
// the program is to end by it, else 0.
func (t *Thread) Deliver() uint64 {
	for ready := t.pending &^ t.Blocked; ready != 0; ready = t.pending &^ t.Blocked {
		signal := uint64(1)
		for ready>>(signal-1)&1 == 0 {
			signal++
		}
		t.pending &^= 1 << (signal - 1)
		action, counts := t.Process.wants(signal)
		if !counts {
			continue
		}
		if action.Handler == byDefault || !t.push(signal, action, t.sender[signal], 0) {
			return signal
		}
		return 0
	}
	return 0
}

// Raise has the thread handle the fault it just made, at address. It returns the signal's number if the program is to
// end by it: it has no handler, or blocked the signal, or there is no stack for the handler.
func (t *Thread) Raise(signal uint64, code int32, address uint64) uint64 {
	action, counts := t.Process.wants(signal)
	if !counts || action.Handler == byDefault || t.Blocked>>(signal-1)&1 != 0 ||
		!t.push(signal, action, info{code, address}, address) {
		return signal
	}
	return 0
}

// push makes a signal frame and has the thread go on with the handler; it tells whether it could.
func (t *Thread) push(signal uint64, action Action, why info, fault uint64) bool {
	context := &t.Context
	sp := uintptr(context.SP)
	on := sp-t.stack < t.size && t.flags&disabled == 0
	if action.Flags&onStack != 0 && t.size != 0 && !on {
		sp = t.stack + t.size
	}
	sp = (sp - frameBytes) &^ 15
	if !space.TouchAll(sp, frameBytes, space.Read|space.Write) {
		return false
	}
	made := memory.At[frame](sp)
	*made = frame{}
	made.info[0] = signal // and no error
	made.info[1] = uint64(uint32(why.code))
	made.info[2] = why.address
	made.stack, made.size, made.onStack = uint64(t.stack), uint64(t.size), t.stackFlags()
	made.mask = t.Blocked
	made.fault = fault
	made.x, made.sp, made.pc, made.state = context.X, context.SP, context.PC, context.State&machine.Condition
	made.magic, made.length = fpsimdMagic, fpsimdLength
	made.fpsr, made.fpcr, made.v = uint32(context.FPSR), uint32(context.FPCR), context.V
	made.previous = [2]uint64{context.X[29], context.X[30]}

	t.Blocked |= action.Mask
	if action.Flags&noDefer == 0 {
		t.Blocked |= 1 << (signal - 1)
	}
	if action.Flags&oneShot != 0 {
		t.Process.Actions[signal].Handler = byDefault
	}
	context.X[0], context.X[1], context.X[2] = signal, uint64(sp), uint64(sp+infoBytes)
	context.X[29] = uint64(sp + frameBytes - 16)
	context.X[30] = uint64(machine.Trampoline())
	if action.Flags&restores != 0 && action.Restorer != 0 {
		context.X[30] = uint64(action.Restorer)
	}
	context.SP, context.PC = uint64(sp), uint64(action.Handler)
	return true
}

// Restore undoes the signal frame at the thread's stack pointer; it tells whether there was one.
func (t *Thread) Restore() bool {
	context := &t.Context
	sp := uintptr(context.SP)
	if sp%16 != 0 || !space.TouchAll(sp, frameBytes, space.Read) {
		return false
	}
	made := memory.At[frame](sp)
	if made.magic != fpsimdMagic {
		return false
	}
	context.X, context.SP, context.PC = made.x, made.sp, made.pc
	context.State = made.state&machine.Condition | machine.Program
	context.FPSR, context.FPCR, context.V = uint64(made.fpsr), uint64(made.fpcr), made.v
	t.Block(made.mask)
	return true
}

// Block sets which signals have to wait. Some cannot. Of those that the process got, and no thread could take,
// it takes what it now can.
func (t *Thread) Block(mask uint64) {
	t.Blocked = mask &^ (1<<(SIGKILL-1) | 1<<(SIGSTOP-1))
	if t.Process.pending&^t.Blocked != 0 {
		t.Process.take(t)
	}
}

func (t *Thread) stackFlags() uint64 {
	if t.size == 0 {
		return disabled
	}
	if uintptr(t.Context.SP)-t.stack < t.size {
		return OnStack
	}
	return 0
}

// Alternate is the stack for signal handlers, its flags and its size.
func (t *Thread) Alternate() (uintptr, uint64, uintptr) {
	return t.stack, t.stackFlags(), t.size
}

// SetAlternate sets it.
func (t *Thread) SetAlternate(stack uintptr, flags uint64, size uintptr) {
	if flags&disabled != 0 {
		stack, size = 0, 0
	}
	t.alternate = alternate{stack, flags, size}
}

// Inherit gives a new thread what its parent's signals are like: its mask, but no alternate stack.
func (t *Thread) Inherit(parent *Thread) {
	t.Context, t.Blocked = parent.Context, parent.Blocked
}
