package main

import (
	"kernel/memory"
	"kernel/supervisor/entropy"
	"kernel/supervisor/files"
	"kernel/supervisor/machine"
	"kernel/supervisor/space"
	"kernel/supervisor/task"
)

// The system calls that are served, by their numbers on arm64. What stands behind each is what a program
// gets: docs/programs.md has this list.
const (
	callGetcwd           = 17  // as Linux
	callEventfd2         = 19  // counters
	callEpollCreate1     = 20  // sets of counters and pipes
	callEpollCtl         = 21  // level- and edge-triggered, one-shot
	callEpollPwait       = 22  // signal mask not changed meanwhile
	callDup              = 23  // as Linux
	callDup3             = 24  // as Linux
	callFcntl            = 25  // F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL
	callIoctl            = 29  // nothing is a terminal: ENOTTY
	callFlock            = 32  // nobody else locks
	callMkdirat          = 34  // as Linux
	callUnlinkat         = 35  // as Linux
	callSymlinkat        = 36  // there are no links: EPERM
	callLinkat           = 37  // there are no links: EPERM
	callRenameat         = 38  // as Linux
	callFtruncate        = 46  // as Linux
	callFaccessat        = 48  // as Linux for root
	callChdir            = 49  // as Linux
	callFchdir           = 50  // as Linux
	callFchmod           = 52  // kept, and heeded by nobody
	callFchmodat         = 53  // kept, and heeded by nobody
	callFchownat         = 54  // accepted: all is root's
	callFchown           = 55  // accepted: all is root's
	callOpenat           = 56  // a tree of files in RAM: /tmp, /dev/null, zero, random, urandom, tty, console
	callClose            = 57  // of any descriptor
	callPipe2            = 59  // of 4096 bytes
	callGetdents64       = 61  // as Linux
	callLseek            = 62  // as Linux
	callRead             = 63  // standard input is the serial port; Ctrl-D alone is its end
	callWrite            = 64  // standard output and error are the serial port
	callWritev           = 66  // as write
	callPread64          = 67  // as Linux
	callPwrite64         = 68  // as Linux
	callSendfile         = 71  // EINVAL: read and write do
	callSplice           = 76  // EINVAL: read and write do
	callReadlinkat       = 78  // there is one link: /proc/self/exe
	callNewfstatat       = 79  // as Linux; one time for all three
	callFstat            = 80  // as Linux; one time for all three
	callFsync            = 82  // there is nothing behind RAM
	callFdatasync        = 83  // there is nothing behind RAM
	callUtimensat        = 88  // the time of the last change
	callExit             = 93  // of a thread
	callExitGroup        = 94  // of the first process: the status is that of the run
	callWaitid           = 95  // as Linux; nothing stops
	callSetTidAddress    = 96  // as Linux
	callFutex            = 98  // FUTEX_WAIT and FUTEX_WAKE, private or not
	callSetRobustList    = 99  // accepted, unused
	callNanosleep        = 101 // as Linux; what is left is not told
	callSetitimer        = 103 // accepted, never signals: no CPU profiles
	callClockGettime     = 113 // CLOCK_REALTIME from the RTC, others from the counter
	callClockGetres      = 114 // a nanosecond
	callSchedSetaffinity = 122 // accepted: there is one core
	callSchedGetaffinity = 123 // core 0
	callSchedYield       = 124 // the next thread's turn
	callKill             = 129 // of processes; all are of one group
	callTkill            = 130 // of a thread
	callTgkill           = 131 // of a thread
	callSigaltstack      = 132 // as Linux
	callRtSigaction      = 134 // as Linux
	callRtSigprocmask    = 135 // as Linux
	callRtSigreturn      = 139 // as Linux; the alternate stack stays as it is
	callUname            = 160 // Linux 6.1 on buildsys
	callGetrlimit        = 163 // nothing is limited
	callGetrusage        = 165 // the time it ran; all else zeros
	callUmask            = 166 // 022
	callPrctl            = 167 // EINVAL
	callGettimeofday     = 169 // from the RTC
	callGetpid           = 172 // the first process's is 1
	callGetppid          = 173 // 0 for the first process
	callGetuid           = 174 // 0, as the three after it
	callGeteuid          = 175 // 0
	callGetgid           = 176 // 0
	callGetegid          = 177 // 0
	callGettid           = 178 // from 1 on
	callSysinfo          = 179 // RAM: all, and what is left
	callSocket           = 198 // of the machine with itself: TCP over IPv4; AF_UNIX, streams and packets of up to 4094 bytes
	callBind             = 200 // to 127.0.0.0/8 and to 0.0.0.0, to a path, or to a name that begins with a zero byte
	callListen           = 201 // 16 connections wait to be accepted
	callAccept           = 202 // as Linux
	callConnect          = 203 // at once
	callGetsockname      = 204 // as Linux
	callGetpeername      = 205 // as Linux
	callSetsockopt       = 208 // accepted, without effect
	callGetsockopt       = 209 // SO_TYPE; all else zeros
	callShutdown         = 210 // of writing; of reading without effect
	callBrk              = 214 // the break cannot be moved
	callMunmap           = 215 // as Linux
	callClone            = 220 // threads, and with CLONE_VM and CLONE_VFORK processes
	callExecve           = 221 // of the program itself: there is no other
	callMmap             = 222 // anonymous memory, not to be written and executed; the hint, if it is free, 1<<38 to 1<<39
	callMprotect         = 226 // EACCES for what is to be written and executed
	callMincore          = 232 // which pages have RAM
	callMadvise          = 233 // DONTNEED and FREE give the RAM back at once; others do nothing
	callAccept4          = 242 // as Linux
	callWait4            = 260 // as Linux; nothing stops
	callPrlimit64        = 261 // nothing is limited
	callRenameat2        = 276 // with RENAME_NOREPLACE or without
	callGetrandom        = 278 // from the board's source of random numbers
	callCopyFileRange    = 285 // EINVAL: read and write do
	callPidfdSendSignal  = 424 // as Linux, without information of the sender's
	callPidfdOpen        = 434 // to wait and to send signals; not to be waited for by epoll
	callFaccessat2       = 439 // as Linux for root
)

// Errors, as Linux numbers them: include/uapi/asm-generic/errno-base.h, errno.h.
const (
	ePERM        = 1
	eNOENT       = 2
	eSRCH        = 3
	eBADF        = 9
	eAGAIN       = 11
	eNOMEM       = 12
	eACCES       = 13
	eFAULT       = 14
	eINVAL       = 22
	eNOTTY       = 25
	eSPIPE       = 29
	eRANGE       = 34
	eNAMETOOLONG = 36
	eNOSYS       = 38
	longest      = 1 << 20 // bytes read or written at once
)

// unknown counts calls that are not served, by number; the last is for all higher ones.
var unknown [len(names) + 1]uint64

// serve does the system call of a thread, or leaves it waiting.
func serve(thread *task.Thread) {
	again := thread.State == task.Calling
	result := call(thread, again)
	switch {
	case result == files.Later:
		thread.State = task.Calling
	case result == done:
	case again:
		thread.Return(result)
	default:
		thread.Context.X[0] = uint64(result)
	}
}

// done says that the thread's registers are as they should be, or that it waits for what will set them.
const done = files.Later - 1

// call is the result of a system call, or files.Later, or done.
func call(thread *task.Thread, again bool) int64 {
	x := &thread.Context.X
	a, b, c, d := x[0], x[1], x[2], x[3]
	switch x[8] {
	case callRead:
		return read(a, uintptr(b), uintptr(c))
	case callWrite:
		return write(a, uintptr(b), uintptr(c))
	case callWritev:
		return writeAll(a, uintptr(b), c)
	case callOpenat:
		path, failed := text(uintptr(b))
		if failed == 0 {
			failed = files.OpenAt(a, path, c, d)
		}
		return failed
	case callClose:
		return files.Close(a)
	case callDup:
		return files.Duplicate(a, 0, 0)
	case callDup3:
		return files.DuplicateTo(a, b, c)
	case callFcntl:
		return control(a, b, c)
	case callIoctl:
		return -eNOTTY
	case callLseek:
		return files.Seek(a, b, c)
	case callPread64, callPwrite64:
		return readOrWriteAt(x[8], a, uintptr(b), uintptr(c), uintptr(d))
	case callFtruncate:
		return files.Truncate(a, b)
	case callGetdents64:
		if c > longest || !space.TouchAll(uintptr(b), uintptr(c), space.Write) {
			return -eFAULT
		}
		return files.Entries(a, uintptr(b), uintptr(c))
	case callFstat:
		if !space.TouchAll(uintptr(b), files.StatBytes, space.Write) {
			return -eFAULT
		}
		return files.Status(a, uintptr(b))
	case callFchmod:
		return files.SetMode(a, "", b)
	case callFchdir:
		return files.ChangeFolder(a, "")
	case callMkdirat, callUnlinkat, callFaccessat, callFaccessat2, callReadlinkat, callNewfstatat, callFchmodat,
		callUtimensat, callRenameat, callRenameat2:
		return atPath(x)
	case callChdir:
		path, failed := text(uintptr(a))
		if failed == 0 {
			failed = files.ChangeFolder(files.AtWorking, path)
		}
		return failed
	case callSymlinkat, callLinkat:
		return -ePERM
	case callFlock, callFchown, callFchownat, callFsync, callFdatasync:
		return 0
	case callSendfile, callSplice, callCopyFileRange:
		return -eINVAL
	case callGetcwd:
		if b > space.PageSize {
			b = space.PageSize
		}
		if !space.TouchAll(uintptr(a), uintptr(b), space.Write) {
			return -eFAULT
		}
		return files.Folder(uintptr(a), uintptr(b))
	case callPipe2:
		return makePipe(uintptr(a), b)
	case callEventfd2:
		return files.Event(a, b)
	case callEpollCreate1:
		return files.NewSet(a)
	case callEpollCtl:
		if b != 2 && !space.TouchAll(uintptr(d), 16, space.Read) {
			return -eFAULT
		}
		return files.Change(a, b, c, uintptr(d))
	case callEpollPwait:
		return waitForSet(thread, again)

	case callSocket:
		return files.Socket(a, b, c)
	case callBind, callConnect:
		if c > mostAddress || !space.TouchAll(uintptr(b), uintptr(c), space.Read) {
			return -eINVAL
		}
		if x[8] == callBind {
			return files.Bind(a, uintptr(b), uintptr(c))
		}
		return files.Connect(a, uintptr(b), uintptr(c))
	case callListen:
		return files.Listen(a)
	case callAccept, callAccept4:
		return accept(x)
	case callGetsockname, callGetpeername:
		return socketName(a, x[8] == callGetpeername, uintptr(b), uintptr(c))
	case callSetsockopt:
		if kind := files.SocketKind(a); kind < 0 {
			return kind
		}
		return 0
	case callGetsockopt:
		return socketOption(a, b, c, uintptr(d), uintptr(x[4]))
	case callShutdown:
		return files.Shutdown(a, b)

	case callExit:
		if thread.End() {
			exit(thread, a)
		}
		return done
	case callExitGroup:
		exit(thread, a)
		return done
	case callExecve:
		return execute(thread, uintptr(a), uintptr(b), uintptr(c))
	case callWait4:
		return wait(thread, a, uintptr(b), c, uintptr(d))
	case callWaitid:
		return waitFor(thread, x)
	case callPidfdOpen:
		return openProcess(a, b)
	case callPidfdSendSignal:
		id, failed := files.ProcessOf(a)
		if failed != 0 {
			return failed
		}
		if c != 0 || d != 0 {
			return -eINVAL
		}
		return kill(thread, int64(id), b)
	case callSetTidAddress:
		thread.OnEnd(uintptr(a))
		return int64(thread.ID)
	case callSetRobustList, callSchedSetaffinity, callSetitimer:
		return 0
	case callClone:
		return clone(thread)
	case callFutex:
		return futex(thread)
	case callNanosleep:
		return sleep(thread, uintptr(a))
	case callSchedYield:
		yielded = true
		return 0
	case callSchedGetaffinity:
		if b < 8 || !space.TouchAll(uintptr(c), 8, space.Write) {
			return -eINVAL
		}
		memory.Store64(uintptr(c), 1)
		return 8

	case callClockGettime, callGettimeofday, callClockGetres:
		return tellTime(x[8], a, uintptr(b))
	case callGetrandom:
		return random(uintptr(a), uintptr(b))

	case callMmap:
		return mapMemory(x)
	case callMunmap:
		if a%space.PageSize != 0 || b == 0 || a+b < a {
			return -eINVAL
		}
		return -space.Unmap(uintptr(a), uintptr(pages(a+b)))
	case callMprotect:
		if a%space.PageSize != 0 || a+b < a {
			return -eINVAL
		}
		rights, allowed := rightsOf(c)
		if !allowed {
			return -eACCES
		}
		return -space.Protect(uintptr(a), uintptr(pages(a+b)), rights)
	case callMadvise:
		return advise(a, b, c)
	case callMincore:
		return inCore(uintptr(a), uintptr(b), uintptr(c))
	case callBrk:
		return 0

	case callRtSigaction:
		return action(a, uintptr(b), uintptr(c), d)
	case callRtSigprocmask:
		return mask(thread, a, uintptr(b), uintptr(c))
	case callSigaltstack:
		return alternate(thread, uintptr(a), uintptr(b))
	case callRtSigreturn:
		if !thread.Restore() {
			raise(thread, task.SIGSEGV, codeUnmapped, thread.Context.SP)
		}
		return done
	case callKill:
		return kill(thread, int64(int32(a)), b)
	case callTkill:
		return send(thread, task.Find(a), b, codeThread)
	case callTgkill:
		return send(thread, task.Find(b), c, codeThread)

	case callUname:
		return name(uintptr(a))
	case callSysinfo:
		return information(uintptr(a))
	case callGetrlimit:
		return limits(uintptr(b))
	case callPrlimit64:
		return limits(uintptr(d))
	case callGetrusage:
		return usage(thread, a, uintptr(b))
	case callUmask:
		return 0o22
	case callPrctl:
		return -eINVAL
	case callGetpid:
		return int64(thread.Process.ID)
	case callGetppid:
		return int64(thread.Process.ParentID)
	case callGetuid, callGeteuid, callGetgid, callGetegid:
		return 0
	case callGettid:
		return int64(thread.ID)
	}
	return unserved(x[8])
}

// unserved counts a system call that is not served.
func unserved(number uint64) int64 {
	if number >= uint64(len(names)) {
		number = uint64(len(names))
	}
	unknown[number]++
	return -eNOSYS
}

// reportUnknown says which system calls the program made that are not served.
func reportUnknown() {
	for number, times := range unknown {
		if times == 0 {
			continue
		}
		console.Puts("supervisor: not served: ")
		if number < len(names) {
			console.Puts(names[number])
			console.Puts(" (")
			console.PutDecimal(uint64(number))
			console.Puts("), ")
		} else {
			console.Puts("system calls of higher numbers, ")
		}
		console.PutDecimal(times)
		console.Puts(" times\r\n")
	}
}

func pages(end uint64) uint64 {
	return (end + space.PageSize - 1) &^ (space.PageSize - 1)
}

// Files.

func read(descriptor uint64, to, length uintptr) int64 {
	if length > longest {
		length = longest
	}
	if !space.TouchAll(to, length, space.Write) {
		return -eFAULT
	}
	result := files.Read(descriptor, to, length)
	if result == files.Later && files.IsConsole(descriptor) {
		listening = true
	}
	return result
}

func write(descriptor uint64, from, length uintptr) int64 {
	if length > longest {
		length = longest
	}
	if !space.TouchAll(from, length, space.Read) {
		return -eFAULT
	}
	return files.Write(descriptor, from, length)
}

// writeAll is writev: vectors of an address and a length each.
func writeAll(descriptor uint64, vector uintptr, count uint64) int64 {
	if count > 1024 {
		return -eINVAL
	}
	if !space.TouchAll(vector, uintptr(count)*16, space.Read) {
		return -eFAULT
	}
	total := int64(0)
	for ; count > 0; count-- {
		length := memory.Load64(vector + 8)
		if length > 0 {
			wrote := write(descriptor, uintptr(memory.Load64(vector)), uintptr(length))
			if wrote < 0 {
				if total > 0 {
					return total
				}
				return wrote
			}
			if total += wrote; uint64(wrote) < length {
				return total
			}
		}
		vector += 16
	}
	return total
}

const longestPath = 4096 // PATH_MAX: include/uapi/linux/limits.h, with the zero byte

// text is the zero-terminated string at an address, and 0 or an error.
func text(place uintptr) (string, int64) {
	for length := uintptr(0); length < longestPath; length++ {
		at := place + length
		if (length == 0 || at%space.PageSize == 0) && !space.TouchAll(at, 1, space.Read) {
			return "", -eFAULT
		}
		if memory.Load8(at) == 0 {
			return stringAt(place, length), 0
		}
	}
	return "", -eNAMETOOLONG
}

// readOrWriteAt is pread64 and pwrite64.
func readOrWriteAt(number, descriptor uint64, place, length, at uintptr) int64 {
	if length > longest {
		length = longest
	}
	rights := uintptr(space.Read)
	if number == callPread64 {
		rights = space.Write
	}
	if !space.TouchAll(place, length, rights) {
		return -eFAULT
	}
	if number == callPread64 {
		return files.ReadAt(descriptor, place, length, at)
	}
	return files.WriteAt(descriptor, place, length, at)
}

// atPath does the calls whose first arguments are a folder and a path.
func atPath(x *[31]uint64) int64 {
	folder, c, d := x[0], x[2], x[3]
	path, failed := "", int64(0)
	if x[1] != 0 || x[8] != callUtimensat { // which may be of a descriptor
		path, failed = text(uintptr(x[1]))
	}
	if failed != 0 {
		return failed
	}
	switch x[8] {
	case callMkdirat:
		return files.MakeFolder(folder, path, c)
	case callUnlinkat:
		return files.Remove(folder, path, c)
	case callFaccessat, callFaccessat2:
		return files.Access(folder, path, c)
	case callReadlinkat:
		if int64(d) <= 0 {
			return -eINVAL
		}
		size := least(d, longestPath)
		if !space.TouchAll(uintptr(c), uintptr(size), space.Write) {
			return -eFAULT
		}
		return files.ReadLink(folder, path, uintptr(c), uintptr(size))
	case callFchmodat:
		return files.SetMode(folder, path, c)
	case callUtimensat:
		return setTime(folder, path, uintptr(c))
	case callNewfstatat:
		if !space.TouchAll(uintptr(c), files.StatBytes, space.Write) {
			return -eFAULT
		}
		return files.StatusAt(folder, path, d, uintptr(c))
	}
	other, failed := text(uintptr(d))
	if failed != 0 {
		return failed
	}
	flags := uint64(0)
	if x[8] == callRenameat2 {
		flags = x[4]
	}
	return files.Rename(folder, path, c, other, flags)
}

// Nanoseconds that mean something else: include/uapi/linux/stat.h, UTIME_NOW, UTIME_OMIT.
const (
	timeNow  = 1<<30 - 1
	timeOmit = 1<<30 - 2
)

// setTime is utimensat, of which the second struct timespec, of the last change, counts.
func setTime(folder uint64, path string, times uintptr) int64 {
	now := clock.Wall(machine.Counter())
	if times == 0 {
		return files.SetTime(folder, path, now)
	}
	if !space.TouchAll(times, 32, space.Read) {
		return -eFAULT
	}
	switch nanoseconds := memory.Load64(times + 24); nanoseconds {
	case timeOmit:
		return 0
	case timeNow:
		return files.SetTime(folder, path, now)
	default:
		return files.SetTime(folder, path, memory.Load64(times+16)*1_000_000_000+nanoseconds)
	}
}

// Commands of fcntl: include/uapi/asm-generic/fcntl.h.
const (
	duplicate      = 0
	getDescriptor  = 1
	setDescriptor  = 2
	getFlags       = 3
	setFlags       = 4
	duplicateClose = 1030
)

func control(descriptor, command, argument uint64) int64 {
	flags := files.Flags(descriptor)
	if flags < 0 {
		return flags
	}
	switch command {
	case duplicate:
		return files.Duplicate(descriptor, argument, 0)
	case duplicateClose:
		return files.Duplicate(descriptor, argument, files.CloseAtExec)
	case getDescriptor:
		return files.Marks(descriptor)
	case setDescriptor:
		return files.SetMarks(descriptor, argument)
	case getFlags:
		return flags
	case setFlags:
		return files.SetFlags(descriptor, argument)
	}
	return -eINVAL
}

func makePipe(to uintptr, flags uint64) int64 {
	if !space.TouchAll(to, 8, space.Write) {
		return -eFAULT
	}
	read, write, failed := files.Pipe(flags)
	if failed == 0 {
		memory.Store32(to, uint32(read))
		memory.Store32(to+4, uint32(write))
	}
	return failed
}

const mostEvents = 4096

// waitForSet is epoll_pwait(set, events, most, milliseconds, …).
func waitForSet(thread *task.Thread, again bool) int64 {
	x := &thread.Context.X
	most := x[2]
	if most == 0 || most > mostEvents {
		return -eINVAL
	}
	if !space.TouchAll(uintptr(x[1]), uintptr(most)*16, space.Write) {
		return -eFAULT
	}
	found := files.Collect(x[0], uintptr(x[1]), most)
	milliseconds := int32(x[3])
	if found != 0 || milliseconds == 0 {
		return found
	}
	now := machine.Counter()
	if !again && milliseconds > 0 {
		thread.Deadline = now + clock.Counts(uint64(milliseconds)*1_000_000)
	}
	if again && thread.Deadline != 0 && now >= thread.Deadline {
		return 0
	}
	return files.Later
}

// Sockets.

const mostAddress = 128 // struct sockaddr_storage

// accept is accept4(listener, address, length, flags).
func accept(x *[31]uint64) int64 {
	flags := x[3]
	if x[8] == callAccept {
		flags = 0
	}
	made := files.Accept(x[0], flags)
	if made >= 0 && x[1] != 0 {
		if failed := socketName(uint64(made), true, uintptr(x[1]), uintptr(x[2])); failed != 0 {
			files.Close(uint64(made))
			return failed
		}
	}
	return made
}

// socketName writes the address of a socket, or of its peer, and its length, which says how much room there is.
func socketName(descriptor uint64, peer bool, to, length uintptr) int64 {
	if !space.TouchAll(length, 4, space.Read|space.Write) {
		return -eFAULT
	}
	room := uintptr(memory.Load32(length))
	if room > mostAddress {
		room = mostAddress
	}
	if !space.TouchAll(to, room, space.Write) {
		return -eFAULT
	}
	written := files.Name(descriptor, peer, to, room)
	if written < 0 {
		return written
	}
	memory.Store32(length, uint32(written))
	return 0
}

// Of getsockopt: include/uapi/asm-generic/socket.h, include/linux/net.h.
const (
	levelSocket = 1 // SOL_SOCKET
	optionType  = 3 // SO_TYPE
)

// socketOption is getsockopt: a socket's kind; no option is set, and no error pending.
func socketOption(descriptor, level, option uint64, to, length uintptr) int64 {
	kind := files.SocketKind(descriptor)
	if kind < 0 {
		return kind
	}
	if !space.TouchAll(length, 4, space.Read|space.Write) || memory.Load32(length) < 4 ||
		!space.TouchAll(to, 4, space.Write) {
		return -eFAULT
	}
	value := uint32(0)
	if level == levelSocket && option == optionType {
		value = uint32(kind)
	}
	memory.Store32(to, value)
	memory.Store32(length, 4)
	return 0
}

// Threads.

// Flags of clone: include/uapi/linux/sched.h.
const (
	cloneMemory    = 0x00000100
	cloneThread    = 0x00010000
	cloneParentTID = 0x00100000
	cloneClearTID  = 0x00200000
	cloneChildTID  = 0x01000000
)

// clone(flags, stack, parent's word, TLS, child's word) makes a thread that returns 0 on that stack.
func clone(thread *task.Thread) int64 {
	x := &thread.Context.X
	flags := x[0]
	if flags&cloneThread == 0 {
		return lend(thread, flags)
	}
	made := task.New(thread.Process)
	if made == nil {
		return -eAGAIN
	}
	made.Inherit(thread)
	made.Context.X[0] = 0
	if x[1] != 0 {
		made.Context.SP = x[1]
	}
	if flags&cloneParentTID != 0 && space.TouchAll(uintptr(x[2]), 4, space.Write) {
		memory.Store32(uintptr(x[2]), uint32(made.ID))
	}
	if flags&cloneChildTID != 0 && space.TouchAll(uintptr(x[4]), 4, space.Write) {
		memory.Store32(uintptr(x[4]), uint32(made.ID))
	}
	if flags&cloneClearTID != 0 {
		made.OnEnd(uintptr(x[4]))
	}
	made.Begin()
	return int64(made.ID)
}

// Operations of futex: include/uapi/linux/futex.h.
const (
	futexWait    = 0
	futexWake    = 1
	futexOptions = 128 | 256 // private, real-time clock
)

// futex(word, operation, value, timeout, …).
func futex(thread *task.Thread) int64 {
	x := &thread.Context.X
	word := uintptr(x[0])
	if word%4 != 0 {
		return -eINVAL
	}
	switch x[1] &^ futexOptions {
	case futexWake:
		return task.Wake(word, x[2]&0xffffffff)
	case futexWait:
		if !space.TouchAll(word, 4, space.Read) {
			return -eFAULT
		}
		if memory.Load32(word) != uint32(x[2]) {
			return -eAGAIN
		}
		deadline := uint64(0)
		if x[3] != 0 {
			length, failed := duration(uintptr(x[3]))
			if failed != 0 {
				return failed
			}
			deadline = machine.Counter() + clock.Counts(length)
		}
		thread.State, thread.Word, thread.Deadline = task.Futex, word, deadline
		return done
	}
	return -eNOSYS
}

// duration is the struct timespec at an address in nanoseconds, and 0 or an error.
func duration(place uintptr) (uint64, int64) {
	if !space.TouchAll(place, 16, space.Read) {
		return 0, -eFAULT
	}
	seconds, nanoseconds := memory.Load64(place), memory.Load64(place+8)
	if seconds > 1<<62 || nanoseconds >= 1_000_000_000 {
		return 0, -eINVAL
	}
	if seconds > 1<<33 {
		seconds = 1 << 33 // centuries
	}
	return seconds*1_000_000_000 + nanoseconds, 0
}

func sleep(thread *task.Thread, how uintptr) int64 {
	length, failed := duration(how)
	if failed != 0 {
		return failed
	}
	thread.State, thread.Deadline = task.Sleep, machine.Counter()+clock.Counts(length)
	return done
}

// Time.

const (
	realTime       = 0 // CLOCK_REALTIME
	realTimeCoarse = 5
	lastClock      = 11
)

func tellTime(number, which uint64, to uintptr) int64 {
	unit := uint64(1)
	if number == callGettimeofday {
		to, which, unit = uintptr(which), realTime, 1000
	}
	if which > lastClock {
		return -eINVAL
	}
	if to == 0 && number != callClockGettime {
		return 0
	}
	if !space.TouchAll(to, 16, space.Write) {
		return -eFAULT
	}
	now := machine.Counter()
	nanoseconds := clock.Nanoseconds(now)
	switch {
	case number == callClockGetres:
		nanoseconds = 1
	case which == realTime || which == realTimeCoarse:
		nanoseconds = clock.Wall(now)
	}
	memory.Store64(to, nanoseconds/1_000_000_000)
	memory.Store64(to+8, nanoseconds%1_000_000_000/unit)
	return 0
}

func random(to, length uintptr) int64 {
	if length > longest {
		length = longest
	}
	if !space.TouchAll(to, length, space.Write) {
		return -eFAULT
	}
	entropy.Fill(to, length)
	return int64(length)
}

// Memory.

// Flags of mmap: include/uapi/asm-generic/mman-common.h, linux/mman.h.
const (
	mapFixed     = 0x10
	mapAnonymous = 0x20
	mapNoReplace = 0x100000
)

// rightsOf are the rights a program asks for, and whether it may have them: to write or to execute, not both.
func rightsOf(asked uint64) (uintptr, bool) {
	rights := uintptr(asked) & (space.Read | space.Write | space.Execute)
	return rights, rights&(space.Write|space.Execute) != space.Write|space.Execute
}

// mapMemory is mmap(address, length, rights, flags, …).
func mapMemory(x *[31]uint64) int64 {
	place, length, flags := x[0], x[1], x[3]
	rights, allowed := rightsOf(x[2])
	if !allowed {
		return -eACCES
	}
	if length == 0 || place%space.PageSize != 0 && flags&(mapFixed|mapNoReplace) != 0 {
		return -eINVAL
	}
	if flags&mapAnonymous == 0 {
		return -eBADF // there is no file that could be mapped
	}
	if length > space.End {
		return -eNOMEM
	}
	length = pages(length)
	low := uintptr(place)
	// What Go's heap grows by it maps where it reserved addresses before, and will touch; the rest may be tables.
	fits := space.Fits
	if flags&mapFixed != 0 {
		fits = space.IsThere
	}
	if rights != space.None && !fits(uintptr(length)) {
		return -eNOMEM
	}
	switch {
	case flags&mapNoReplace != 0:
		if place > space.End || !space.IsFree(low, low+uintptr(length)) {
			return -space.EEXIST
		}
	case flags&mapFixed != 0:
		if place > space.End {
			return -eNOMEM
		}
	default:
		if low = space.Place(low, uintptr(length)); low == 0 {
			return -eNOMEM
		}
	}
	if failed := space.Map(low, low+uintptr(length), rights); failed != 0 {
		return -failed
	}
	return int64(low)
}

// Advice: include/uapi/asm-generic/mman-common.h.
const (
	dontNeed      = 4
	free          = 8
	lastOrdinary  = 4  // MADV_NORMAL to MADV_DONTNEED
	hugePage      = 14 // MADV_HUGEPAGE
	collapse      = 25 // MADV_COLLAPSE
	noHugePage    = 15 // MADV_NOHUGEPAGE
	dontDump      = 16
	populateWrite = 23
)

func advise(place, length, advice uint64) int64 {
	if place%space.PageSize != 0 || place+length < place {
		return -eINVAL
	}
	low, end := uintptr(place), uintptr(pages(place+length))
	switch {
	case advice == dontNeed || advice == free:
		if !space.IsWhole(low, end) {
			return -eNOMEM
		}
		space.Discard(low, end)
	case advice > lastOrdinary && (advice < hugePage || advice > dontDump):
		return -eINVAL
	}
	return 0
}

func inCore(place, length, to uintptr) int64 {
	if place%space.PageSize != 0 {
		return -eINVAL
	}
	count := (length + space.PageSize - 1) / space.PageSize
	if !space.IsWhole(place, place+count*space.PageSize) {
		return -eNOMEM
	}
	if !space.TouchAll(to, count, space.Write) {
		return -eFAULT
	}
	for at := uintptr(0); at < count; at++ {
		present := uint8(0)
		if space.IsPresent(place + at*space.PageSize) {
			present = 1
		}
		memory.Store8(to+at, present)
	}
	return 0
}

// Signals.

const (
	mostSignal  = 64
	actionBytes = 32
	codeThread  = -6 // SI_TKILL
)

// action is rt_sigaction(signal, new, old, size of a mask).
func action(signal uint64, given, old uintptr, size uint64) int64 {
	if signal == 0 || signal > mostSignal || size != 8 {
		return -eINVAL
	}
	if given != 0 && (signal == task.SIGKILL || signal == task.SIGSTOP) {
		return -eINVAL
	}
	if given != 0 && !space.TouchAll(given, actionBytes, space.Read) ||
		old != 0 && !space.TouchAll(old, actionBytes, space.Write) {
		return -eFAULT
	}
	now := &task.Current.Process.Actions[signal]
	before := *now
	if given != 0 {
		*now = *memory.At[task.Action](given)
	}
	if old != 0 {
		*memory.At[task.Action](old) = before
	}
	return 0
}

// How rt_sigprocmask changes a mask.
const (
	block   = 0
	unblock = 1
	set     = 2
)

func mask(thread *task.Thread, how uint64, given, old uintptr) int64 {
	if given != 0 && !space.TouchAll(given, 8, space.Read) || old != 0 && !space.TouchAll(old, 8, space.Write) {
		return -eFAULT
	}
	before := thread.Blocked
	if given != 0 {
		change := memory.Load64(given)
		switch how {
		case block:
			thread.Block(before | change)
		case unblock:
			thread.Block(before &^ change)
		case set:
			thread.Block(change)
		default:
			return -eINVAL
		}
	}
	if old != 0 {
		memory.Store64(old, before)
	}
	return 0
}

const stackStruct = 24 // bytes in a stack_t

func alternate(thread *task.Thread, given, old uintptr) int64 {
	if given != 0 && !space.TouchAll(given, stackStruct, space.Read) ||
		old != 0 && !space.TouchAll(old, stackStruct, space.Write) {
		return -eFAULT
	}
	stack, flags, size := thread.Alternate()
	if given != 0 {
		if flags&task.OnStack != 0 {
			return -ePERM
		}
		thread.SetAlternate(uintptr(memory.Load64(given)), uint64(memory.Load32(given+8)), uintptr(memory.Load64(given+16)))
	}
	if old != 0 {
		memory.Store64(old, uint64(stack))
		memory.Store64(old+8, flags)
		memory.Store64(old+16, uint64(size))
	}
	return 0
}

func send(thread, to *task.Thread, signal uint64, code int32) int64 {
	if signal > mostSignal {
		return -eINVAL
	}
	if to == nil {
		return -eSRCH
	}
	if signal != 0 {
		to.Send(signal, code, thread.Process.ID)
		task.Woken = true // it may wait, and is to be looked at
	}
	return 0
}

// About the machine.

const nameBytes = 65 // of each of the six fields of struct utsname

var fields = [...]string{"Linux", "buildsys", "6.1.0", "#1", "aarch64", ""}

func name(to uintptr) int64 {
	if !space.TouchAll(to, nameBytes*uintptr(len(fields)), space.Write) {
		return -eFAULT
	}
	for at, field := range fields {
		place := bytesAt(to+uintptr(at)*nameBytes, nameBytes)
		zero(to+uintptr(at)*nameBytes, nameBytes)
		copy(place, field)
	}
	return 0
}

// Of struct sysinfo: include/uapi/linux/sysinfo.h.
const (
	informationBytes = 112
	informationTotal = 32
	informationFree  = 40
	informationUnit  = 104
)

// information is sysinfo.
func information(to uintptr) int64 {
	if !space.TouchAll(to, informationBytes, space.Write) {
		return -eFAULT
	}
	zero(to, informationBytes)
	memory.Store64(to, clock.Nanoseconds(machine.Counter())/1_000_000_000)
	memory.Store64(to+informationTotal, uint64(space.Total()))
	memory.Store64(to+informationFree, uint64(space.Free()))
	memory.Store32(to+informationUnit, space.PageSize)
	return 0
}

func limits(to uintptr) int64 {
	if to == 0 {
		return 0
	}
	if !space.TouchAll(to, 16, space.Write) {
		return -eFAULT
	}
	memory.Store64(to, 1<<64-1)
	memory.Store64(to+8, 1<<64-1)
	return 0
}
