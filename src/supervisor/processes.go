package main

import (
	"kernel/memory"
	"kernel/supervisor/files"
	"kernel/supervisor/space"
	"kernel/supervisor/task"
)

// Processes: the program may start itself again. Go does so by clone with CLONE_VM and CLONE_VFORK, whose child has its
// parent's memory until it calls execve (src/syscall/exec_linux.go, forkAndExecInChild); there is no other fork.

// Flags of clone for processes: include/uapi/linux/sched.h.
const (
	cloneSignal = 0x000000ff // the signal the parent gets when the child ends
	cloneNew    = 0x7e020080 // CLONE_NEW…: namespaces
	clonePidfd  = 0x00001000
	cloneVFork  = 0x00004000
)

// lend is clone for another process.
func lend(thread *task.Thread, flags uint64) int64 {
	switch {
	case flags&cloneNew != 0:
		return -eINVAL // as a Linux has it that was built without them
	case flags&cloneMemory == 0 || flags&cloneVFork == 0:
		return unserved(callClone)
	}
	told, number := uintptr(thread.Context.X[2]), int64(0)
	if flags&clonePidfd != 0 {
		if !space.TouchAll(told, 4, space.Write) {
			return -eFAULT
		}
		if number = files.Process(0); number < 0 {
			return number
		}
	}
	made := thread.Lend(flags & cloneSignal)
	if made == nil {
		if flags&clonePidfd != 0 {
			files.Close(uint64(number))
		}
		return -eAGAIN
	}
	if flags&clonePidfd != 0 {
		files.BeProcess(number, made.Process.ID)
		memory.Store32(told, uint32(number))
	}
	made.Context.X[0] = 0
	if stack := thread.Context.X[1]; stack != 0 {
		made.Context.SP = stack
	}
	made.Begin()
	return done
}

// openProcess is pidfd_open.
func openProcess(id, flags uint64) int64 {
	switch {
	case flags&^files.Nonblocking != 0 || int32(id) <= 0:
		return -eINVAL
	case task.Known(id) == nil:
		return -eSRCH
	}
	return files.Process(id)
}

// words are arguments and environment: zero-terminated strings, one behind another.
type words struct {
	arguments, environment uintptr // how many
	bytes                  uintptr // of all, with the zero bytes
	from                   uintptr // where they are; or 0, and
	pages, last            uintptr // the first and the last of pages that have them, each behind the next one's address
}

const (
	mostWords   = 128 << 10 // bytes: ARG_MAX, include/uapi/linux/limits.h
	perPage     = space.PageSize - 8
	eTOOBIG     = 7
	eCHILD      = 10
	lowerStatus = 8 // wait4's status has the exit status in bits 15:8
)

// copyTo copies them to memory that is there.
func (w *words) copyTo(place uintptr) {
	if w.from != 0 {
		copyBytes(place, w.from, w.bytes)
		return
	}
	page := w.pages
	for left := w.bytes; left > 0; page = uintptr(memory.Load64(page)) {
		length := uintptr(least(uint64(left), perPage))
		copyBytes(place, page+8, length)
		place += length
		left -= length
	}
}

// add keeps one byte; it tells whether there was RAM for it.
func (w *words) add(letter uint8) bool {
	at := w.bytes % perPage
	if at == 0 {
		page := space.Frame()
		if page == 0 {
			return false
		}
		if w.pages == 0 {
			w.pages = page
		} else {
			memory.Store64(w.last, uint64(page))
		}
		w.last = page
	}
	memory.Store8(w.last+8+at, letter)
	w.bytes++
	return true
}

// take keeps the strings at the addresses in a vector of the program's; it returns how many, and 0 or an error.
func (w *words) take(vector uintptr) (uintptr, int64) {
	count := uintptr(0)
	for ; vector != 0; vector += 8 {
		if !space.TouchAll(vector, 8, space.Read) {
			return 0, -eFAULT
		}
		place := uintptr(memory.Load64(vector))
		if place == 0 {
			break
		}
		count++
		for first, letter := true, uint8(1); letter != 0; place++ {
			if (first || place%space.PageSize == 0) && !space.TouchAll(place, 1, space.Read) {
				return 0, -eFAULT
			}
			first, letter = false, memory.Load8(place)
			if w.bytes == mostWords {
				return 0, -eTOOBIG
			}
			if !w.add(letter) {
				return 0, -eNOMEM
			}
		}
	}
	return count, 0
}

func (w *words) release() {
	for page := w.pages; page != 0; {
		next := uintptr(memory.Load64(page))
		space.Release(page)
		page = next
	}
}

// execute is execve(path, arguments, environment).
func execute(thread *task.Thread, path, arguments, environment uintptr) int64 {
	name, failed := text(path)
	if failed == 0 {
		failed = files.IsExecutable(name)
	}
	if failed != 0 {
		return failed
	}
	var told words
	if told.arguments, failed = told.take(arguments); failed == 0 {
		told.environment, failed = told.take(environment)
	}
	if failed != 0 {
		told.release()
		return failed
	}
	made := space.New()
	if made == nil {
		told.release()
		return -eNOMEM
	}
	// From here on there is no way back: as with Linux, what fails ends the process.
	thread.Exec(made)
	prepared := prepare(thread, told)
	told.release()
	if !prepared {
		endBy(thread, task.SIGKILL)
	}
	return done
}

func isFirst(thread *task.Thread) bool {
	return thread.Process.Parent == nil
}

// exit ends the process a thread is of, or the run.
func exit(thread *task.Thread, status uint64) {
	if isFirst(thread) {
		end(status)
	}
	thread.Process.End(uint32(status&0xff) << lowerStatus)
}

// endBy does so by a signal.
func endBy(thread *task.Thread, signal uint64) {
	if isFirst(thread) {
		end(128 + signal)
	}
	thread.Process.End(uint32(signal))
}

// Options of wait4 and waitid: include/uapi/linux/wait.h.
const (
	waitNoHang    = 1
	waitExited    = 4
	waitKeep      = 0x01000000 // WNOWAIT
	waitAll       = 0          // P_ALL
	waitProcess   = 1          // P_PID
	waitGroup     = 2          // P_PGID: all are of one
	waitPidfd     = 3          // P_PIDFD
	usageBytes    = 144        // struct rusage
	childBytes    = 128        // siginfo_t
	usageSelf     = 0
	usageThread   = 1
	usageChildren = -1
)

// wait is wait4(process, status, options, usage).
func wait(thread *task.Thread, which uint64, status uintptr, options uint64, used uintptr) int64 {
	id := int32(which)
	if id < -1 {
		return -eCHILD // of another group
	}
	if id == -1 {
		id = 0
	}
	if status != 0 && !space.TouchAll(status, 4, space.Write) ||
		used != 0 && !space.TouchAll(used, usageBytes, space.Write) {
		return -eFAULT
	}
	child, failed := ended(thread, uint64(id), options)
	if child == nil {
		return failed
	}
	if status != 0 {
		memory.Store32(status, child.Status)
	}
	if used != 0 {
		storeUsage(used, child.Ran+child.Reaped)
	}
	found := int64(child.ID)
	child.Reap()
	return found
}

// ended is a child that ended; or nil, and what the call is to return.
func ended(thread *task.Thread, id, options uint64) (*task.Process, int64) {
	child, are := thread.Process.Child(id)
	switch {
	case child != nil:
		return child, 0
	case !are:
		return nil, -eCHILD
	case options&waitNoHang != 0:
		return nil, 0
	}
	return nil, files.Later
}

// waitFor is waitid(kind, ID, information, options, usage).
func waitFor(thread *task.Thread, x *[31]uint64) int64 {
	id, to, options, used := x[1], uintptr(x[2]), x[3], uintptr(x[4])
	switch x[0] {
	case waitAll, waitGroup:
		id = 0
	case waitProcess:
		if id == 0 {
			return -eINVAL
		}
	case waitPidfd:
		failed := int64(0)
		if id, failed = files.ProcessOf(id); failed != 0 {
			return failed
		}
	default:
		return -eINVAL
	}
	if options&waitExited == 0 {
		return -eINVAL // nothing stops, or goes on
	}
	if to != 0 && !space.TouchAll(to, childBytes, space.Write) ||
		used != 0 && !space.TouchAll(used, usageBytes, space.Write) {
		return -eFAULT
	}
	child, failed := ended(thread, id, options)
	if failed != 0 {
		return failed
	}
	if to != 0 {
		zero(to, childBytes)
	}
	if child == nil {
		return 0
	}
	if to != 0 {
		cause, number := child.Cause()
		memory.Store32(to, task.SIGCHLD)
		memory.Store32(to+8, uint32(cause))
		memory.Store32(to+16, uint32(child.ID))
		memory.Store32(to+24, number)
	}
	if used != 0 {
		storeUsage(used, child.Ran+child.Reaped)
	}
	if options&waitKeep == 0 {
		child.Reap()
	}
	return 0
}

// usage is getrusage.
func usage(thread *task.Thread, who uint64, to uintptr) int64 {
	if !space.TouchAll(to, usageBytes, space.Write) {
		return -eFAULT
	}
	switch int32(who) {
	case usageSelf, usageThread:
		storeUsage(to, thread.Process.Used())
	case usageChildren:
		storeUsage(to, thread.Process.Reaped)
	default:
		return -eINVAL
	}
	return 0
}

// storeUsage writes a struct rusage: so many counts of the counter of the user's time.
func storeUsage(to uintptr, counts uint64) {
	zero(to, usageBytes)
	microseconds := clock.Nanoseconds(counts) / 1000
	memory.Store64(to, microseconds/1_000_000)
	memory.Store64(to+8, microseconds%1_000_000)
}

// kill is kill(process, signal).
func kill(thread *task.Thread, which int64, signal uint64) int64 {
	if signal > mostSignal {
		return -eINVAL
	}
	from := thread.Process
	switch {
	case which == 0 || which == -1:
		if signal != 0 {
			task.SendAll(signal, from.ID, which == 0)
		}
	case which < 0:
		return -eSRCH
	default:
		to := task.Known(uint64(which))
		if to == nil {
			return -eSRCH
		}
		if signal != 0 {
			to.Send(signal, 0, from.ID)
		}
	}
	task.Woken = true // who waits is to be looked at
	return 0
}
