// Package files is the program's file descriptors: the serial port, pipes, event counters,
// sets of descriptors to wait for (epoll), and a tree of files in RAM.
package files

import (
	"unsafe"

	"kernel/memory"
	"kernel/supervisor/machine"
	"kernel/supervisor/space"
	"kernel/uart"
)

// Errors, as Linux numbers them: include/uapi/asm-generic/errno-base.h.
const (
	ENOENT       = 2
	ENXIO        = 6
	EBADF        = 9
	EAGAIN       = 11
	ENOMEM       = 12
	ENOEXEC      = 8
	EACCES       = 13
	EBUSY        = 16
	EEXIST       = 17
	ENOTDIR      = 20
	EISDIR       = 21
	EINVAL       = 22
	EMFILE       = 24
	ETXTBSY      = 26
	EFBIG        = 27
	ENOSPC       = 28
	ESPIPE       = 29
	EPIPE        = 32
	ERANGE       = 34
	ENAMETOOLONG = 36
	ENOTEMPTY    = 39
)

// A kind of file.
type kind uint8

const (
	closed kind = iota
	console
	null
	zeros
	random
	event
	pipeRead
	pipeWrite
	epoll
	boardText
	barriers
	interruption
	regular // a file or folder of the tree
	network // a socket
	process // a pidfd
)

// Flags of a descriptor: include/uapi/asm-generic/fcntl.h.
const (
	Nonblocking = 0x800
	CloseAtExec = 0o2000000 // O_CLOEXEC
	ReadWrite   = 2
	writeOnly   = 1
)

// What a descriptor may be ready for: include/uapi/linux/eventpoll.h.
const (
	in      = 0x001
	out     = 0x004
	failed  = 0x008
	hangUp  = 0x010
	readEnd = 0x2000 // EPOLLRDHUP
	edge    = 1 << 31
	once    = 1 << 30
)

const (
	mostFiles  = 256
	mostPipes  = 256
	mostEvents = 128
	mostSets   = 32
	mostInSet  = 64
)

// A file is what a descriptor stands for. 256 of them are a page.
type file struct {
	count  uint64 // of what has no description: how far it was read; of a process, its ID
	number int32  // of a pipe, counter, set, socket, interrupt or description
	flags  uint16
	kind   kind
	closes bool // at execve: FD_CLOEXEC
}

// An eventCounter is what eventfd2 makes.
type eventCounter struct {
	count uint64
	moves uint64 // how often it changed
	users int
}

type pipe struct {
	buffer           uintptr // a page
	first, length    uintptr
	readers, writers int
	moves            uint64
}

type member struct {
	descriptor int // and 1, so that 0 is none
	events     uint32
	data       uint64
	moves      uint64 // of the file, when it was last reported, and 1
}

type set struct {
	members [mostInSet]member
	turn    int
	users   int
	owner   *[mostFiles]file // whose descriptors the members are
}

var (
	files    *[mostFiles]file // of the process that runs
	own      *Table           // which has them
	pipes    [mostPipes]pipe
	counters [mostEvents]eventCounter
	sets     [mostSets]*set // each a page, which is not given back
	port     uart.Port
	base     uintptr
	// Fill gives random bytes.
	fill func(to uintptr, length uintptr)
	// Sent counts the bytes that were written to the serial port; Sum is their FNV-1a hash of 64 bits.
	Sent, Sum uint64
)

// Of the FNV-1a hash: draft-eastlake-fnv, FNV offset basis and FNV prime of 64 bits.
const (
	basis = 0xcbf29ce484222325
	prime = 0x100000001b3
)

// Init opens descriptors 0 to 2, the serial port at address; it tells whether there was RAM for descriptors.
func Init(address uintptr, told *machine.Table, randomly func(to, length uintptr), clock func() uint64) bool {
	now = clock
	port, base, table, fill = uart.At(address), address, told, randomly
	Sum = basis
	if own = newTable(); own == nil {
		return false
	}
	own.Enter()
	for at := 0; at < 3; at++ {
		files[at] = file{kind: console, flags: ReadWrite}
	}
	return true
}

func open(descriptor uint64) *file {
	if descriptor >= mostFiles || files[descriptor].kind == closed {
		return nil
	}
	return &files[descriptor]
}

func add(made file) int64 {
	for at := range files {
		if files[at].kind == closed {
			files[at] = made
			return int64(at)
		}
	}
	return -EMFILE
}

// InitTree makes the tree of files, when there is RAM; it tells whether there was enough.
func InitTree() bool {
	return initTree()
}

// Close closes a descriptor.
func Close(descriptor uint64) int64 {
	file := open(descriptor)
	if file == nil {
		return -EBADF
	}
	file.drop()
	file.kind = closed
	for _, set := range sets {
		if set == nil {
			break
		}
		if set.users > 0 && set.owner == files {
			set.remove(int(descriptor))
		}
	}
	return 0
}

// drop tells what a descriptor stands for that there is one less of it.
func (f *file) drop() {
	switch f.kind {
	case pipeRead, pipeWrite:
		pipes[f.number].leave(f.kind == pipeRead)
	case network:
		sockets[f.number].close()
	case event:
		counters[f.number].users--
	case epoll:
		sets[f.number].users--
	case interruption:
		interrupts[f.number].leave()
	case regular:
		descriptions[f.number].close()
	}
}

// share tells what a descriptor stands for that there is one more of it.
func (f *file) share() {
	switch f.kind {
	case pipeRead:
		pipes[f.number].readers++
	case pipeWrite:
		pipes[f.number].writers++
	case network:
		sockets[f.number].users++
	case event:
		counters[f.number].users++
	case epoll:
		sets[f.number].users++
	case interruption:
		interrupts[f.number].users++
	case regular:
		descriptions[f.number].users++
	}
}

// Duplicate is another descriptor of the same file, from least on, with the flag to close it at execve or without.
func Duplicate(descriptor, least, flags uint64) int64 {
	if open(descriptor) == nil {
		return -EBADF
	}
	for at := least; at < mostFiles; at++ {
		if files[at].kind == closed {
			return DuplicateTo(descriptor, at, flags)
		}
	}
	return -EMFILE
}

// DuplicateTo makes to another descriptor of the same file.
func DuplicateTo(descriptor, to, flags uint64) int64 {
	from := open(descriptor)
	if from == nil || to >= mostFiles {
		return -EBADF
	}
	if descriptor == to {
		return -EINVAL
	}
	Close(to)
	from.share()
	files[to] = *from
	files[to].closes = flags&CloseAtExec != 0
	return int64(to)
}

// Flags are those of a descriptor, or an error.
func Flags(descriptor uint64) int64 {
	if file := open(descriptor); file != nil {
		return int64(file.flags)
	}
	return -EBADF
}

// SetFlags sets them.
func SetFlags(descriptor, flags uint64) int64 {
	file := open(descriptor)
	if file == nil {
		return -EBADF
	}
	file.flags = file.flags&access | uint16(flags)&(Nonblocking|appending)
	return 0
}

// closesAtExec is FD_CLOEXEC: include/uapi/asm-generic/fcntl.h.
const closesAtExec = 1

// Marks is FD_CLOEXEC for a descriptor that is closed at execve, or an error.
func Marks(descriptor uint64) int64 {
	file := open(descriptor)
	switch {
	case file == nil:
		return -EBADF
	case file.closes:
		return closesAtExec
	}
	return 0
}

// SetMarks sets it.
func SetMarks(descriptor, marks uint64) int64 {
	file := open(descriptor)
	if file == nil {
		return -EBADF
	}
	file.closes = marks&closesAtExec != 0
	return 0
}

// IsConsole tells whether a descriptor is the serial port.
func IsConsole(descriptor uint64) bool {
	file := open(descriptor)
	return file != nil && file.kind == console
}

// newPipe is the index of a pipe with one reader and one writer, or an error.
func newPipe() int {
	for at := range pipes {
		if pipes[at].buffer != 0 {
			continue
		}
		page := space.Frame()
		if page == 0 {
			return -ENOMEM
		}
		// Who waits for it by its index must notice that it is another: moves only rises.
		pipes[at] = pipe{buffer: page, readers: 1, writers: 1, moves: pipes[at].moves + 1}
		return at
	}
	return -EMFILE
}

// leave ends one reader's, or writer's, use of a pipe.
func (p *pipe) leave(reader bool) {
	p.moves++
	if reader {
		p.readers--
	} else {
		p.writers--
	}
	if p.readers == 0 && p.writers == 0 {
		p.give()
	}
}

// give gives a pipe back.
func (p *pipe) give() {
	space.Release(p.buffer)
	p.buffer = 0
}

// Pipe makes a pipe: its two descriptors, and 0 or an error.
func Pipe(flags uint64) (int64, int64, int64) {
	at := newPipe()
	if at < 0 {
		return 0, 0, int64(at)
	}
	closes := flags&CloseAtExec != 0
	read := add(file{kind: pipeRead, number: int32(at), flags: uint16(flags) & Nonblocking, closes: closes})
	if read < 0 {
		pipes[at].give()
		return 0, 0, read
	}
	write := add(file{kind: pipeWrite, number: int32(at), flags: uint16(flags)&Nonblocking | writeOnly, closes: closes})
	if write < 0 {
		pipes[at].writers = 0
		Close(uint64(read))
		return 0, 0, write
	}
	return read, write, 0
}

// Event makes an event counter.
func Event(count, flags uint64) int64 {
	for at := range counters {
		if counters[at].users > 0 {
			continue
		}
		made := file{kind: event, number: int32(at), flags: uint16(flags)&Nonblocking | ReadWrite}
		made.closes = flags&CloseAtExec != 0
		opened := add(made)
		if opened >= 0 {
			// Who waits for it by its descriptor must notice that it is another: moves only rises.
			counters[at] = eventCounter{count: count, moves: counters[at].moves + 1, users: 1}
		}
		return opened
	}
	return -EMFILE
}

// Process makes a descriptor of the process of that ID.
func Process(id uint64) int64 {
	return add(file{kind: process, count: id, flags: ReadWrite, closes: true})
}

// BeProcess makes a descriptor of a process one of that ID.
func BeProcess(descriptor int64, id uint64) {
	files[descriptor].count = id
}

// ProcessOf is the ID of the process a descriptor is of, and 0 or an error.
func ProcessOf(descriptor uint64) (uint64, int64) {
	if file := open(descriptor); file != nil && file.kind == process {
		return file.count, 0
	}
	return 0, -EBADF
}

// Later says that a call can not be done yet.
const Later = -1 << 32

// Read reads up to length bytes to memory that is there.
func Read(descriptor uint64, to, length uintptr) int64 {
	file := open(descriptor)
	if file == nil {
		return -EBADF
	}
	switch file.kind {
	case null:
		return 0
	case zeros:
		zero(bytesAt(to, length))
		return int64(length)
	case random:
		fill(to, length)
		return int64(length)
	case console:
		return file.wait(readConsole(to, length))
	case event:
		if length < 8 {
			return -EINVAL
		}
		counter := &counters[file.number]
		if counter.count == 0 {
			return file.wait(Later)
		}
		memory.Store64(to, counter.count)
		counter.count = 0
		counter.moves++
		return 8
	case pipeRead:
		return file.wait(pipes[file.number].read(to, length))
	case boardText:
		return file.readText(table.Board, table.BoardEnd, to, length)
	case barriers:
		return file.readBarriers(to, length)
	case interruption:
		return file.readInterrupt(to, length)
	case regular:
		return file.readFile(to, length, nil)
	case network:
		return file.wait(sockets[file.number].read(to, length))
	}
	return -EBADF
}

// Write writes up to length bytes of memory.
func Write(descriptor uint64, from, length uintptr) int64 {
	file := open(descriptor)
	if file == nil {
		return -EBADF
	}
	switch file.kind {
	case null, zeros, random:
		return int64(length)
	case console:
		for at := uintptr(0); at < length; at++ {
			letter := memory.Load8(from + at)
			port.PutByte(letter)
			Sum = (Sum ^ uint64(letter)) * prime
		}
		Sent += uint64(length)
		return int64(length)
	case event:
		if length < 8 {
			return -EINVAL
		}
		counter := &counters[file.number]
		counter.count += memory.Load64(from)
		counter.moves++
		return 8
	case pipeWrite:
		return file.wait(pipes[file.number].write(from, length))
	case interruption:
		return file.writeInterrupt(from, length)
	case regular:
		return file.writeFile(from, length, nil)
	case network:
		return file.wait(sockets[file.number].write(from, length))
	}
	return -EBADF
}

// wait is what a call that found that result returns: one that would wait may not be allowed to.
func (f *file) wait(result int64) int64 {
	if result == Later && f.flags&Nonblocking != 0 {
		return -EAGAIN
	}
	return result
}

// PL011 TRM (DDI 0183) 3.3.3, UARTFR: RXFE, nothing was received.
const (
	flagRegister = 0x18
	receiveEmpty = 1 << 4
	endOfInput   = 4 // Ctrl-D
)

// HasInput tells whether the serial port received something.
func HasInput() bool {
	return memory.Load32(base+flagRegister)&receiveEmpty == 0
}

// ended tells that the end of input came behind what was read last.
var ended bool

func readConsole(to, length uintptr) int64 {
	at := uintptr(0)
	for ; at < length && !ended && HasInput(); at++ {
		letter := uint8(memory.Load32(base))
		if letter == endOfInput {
			ended = true
			break
		}
		memory.Store8(to+at, letter)
	}
	if at == 0 && length > 0 {
		if ended {
			ended = false
			return 0
		}
		return Later
	}
	return int64(at)
}

func (p *pipe) read(to, length uintptr) int64 {
	if p.length == 0 {
		if p.writers == 0 || length == 0 {
			return 0
		}
		return Later
	}
	at := uintptr(0)
	for ; at < length && p.length > 0; at++ {
		memory.Store8(to+at, p.next())
	}
	p.moves++
	return int64(at)
}

func (p *pipe) write(from, length uintptr) int64 {
	if p.readers == 0 {
		return -EPIPE
	}
	at := uintptr(0)
	for ; at < length && p.length < space.PageSize; at++ {
		p.add(memory.Load8(from + at))
	}
	if at == 0 && length > 0 {
		return Later
	}
	p.moves++
	return int64(at)
}

// ready is what a descriptor is ready for, and how often that changed.
func (f *file) ready() (uint32, uint64) {
	switch f.kind {
	case event:
		counter := &counters[f.number]
		if counter.count > 0 {
			return in | out, counter.moves
		}
		return out, counter.moves
	case network:
		return sockets[f.number].ready()
	case pipeRead:
		pipe := &pipes[f.number]
		events := uint32(0)
		if pipe.length > 0 {
			events = in
		}
		if pipe.writers == 0 {
			events |= hangUp
		}
		return events, pipe.moves
	case pipeWrite:
		pipe := &pipes[f.number]
		events := uint32(0)
		if pipe.length < space.PageSize {
			events = out
		}
		if pipe.readers == 0 {
			events |= failed
		}
		return events, pipe.moves
	}
	if f.kind == interruption {
		from := &interrupts[f.number]
		if f.count != uint64(from.came) {
			return in | out, from.moves
		}
		return out, from.moves
	}
	return in | out, 0
}

// place is where a node lies.
func place(n *node) uintptr {
	return uintptr(unsafe.Pointer(n))
}

// textAt is memory as a string; it must be there.
func textAt(address, length uintptr) string {
	bytes := bytesAt(address, length)
	return *(*string)(unsafe.Pointer(&bytes)) // a string is a slice without a capacity
}
