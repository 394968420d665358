package files

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

// What a program finds in /dev beside what Linux has: the board's description, how many barriers were counted, and
// interrupts, as with Linux's Documentation/driver-api/uio-howto.rst: a read waits for one and gives how many came, a
// write of 1 lets it come again.
const (
	devicesFolder = "/dev/"
	boardName     = "/dev/board"
	barriersName  = "/dev/barriers"
	interruptName = "/dev/interrupt/"
	noDevice      = -19 // ENODEV
	busy          = -16 // EBUSY
)

// An interrupt is one that the program opened.
type interrupt struct {
	id    uintptr // 0 for none: that is no device's
	came  uint32
	users int
	moves uint64
}

const mostInterrupts = 32

var (
	interrupts [mostInterrupts]interrupt
	table      *machine.Table
)

// openDevice opens one of these files, or says that there is none of that name.
func openDevice(name string, flags uint64) int64 {
	switch {
	case name == boardName:
		return add(file{kind: boardText, flags: uint16(flags), closes: flags&CloseAtExec != 0})
	case name == barriersName:
		if table.Counts == 0 {
			return -ENOENT
		}
		return add(file{kind: barriers, flags: uint16(flags), closes: flags&CloseAtExec != 0})
	case len(name) > len(interruptName) && name[:len(interruptName)] == interruptName:
		id := uintptr(0)
		for _, digit := range []byte(name[len(interruptName):]) {
			if digit < '0' || digit > '9' || id > 1<<16 {
				return -ENOENT
			}
			id = id*10 + uintptr(digit-'0')
		}
		return openInterrupt(id, flags)
	}
	return -ENOENT
}

func openInterrupt(id uintptr, flags uint64) int64 {
	if !table.HasInterrupt(id) {
		return noDevice
	}
	free := -1
	for at := range interrupts {
		switch interrupts[at].id {
		case id:
			return busy
		case 0:
			free = at
		}
	}
	if free < 0 {
		return -EMFILE
	}
	made := file{kind: interruption, number: int32(free), flags: uint16(flags), closes: flags&CloseAtExec != 0}
	opened := add(made)
	if opened >= 0 {
		interrupts[free] = interrupt{id: id, users: 1}
	}
	return opened
}

// Interrupted takes note of an interrupt that came; it is held back until somebody has dealt with it.
func Interrupted(id uintptr) {
	table.Disable(id)
	for at := range interrupts {
		if interrupts[at].id == id {
			interrupts[at].came++
			interrupts[at].moves++
		}
	}
}

func (f *file) readInterrupt(to, length uintptr) int64 {
	if length < 4 {
		return -EINVAL
	}
	from := &interrupts[f.number]
	if f.count == uint64(from.came) {
		return f.wait(Later)
	}
	f.count = uint64(from.came)
	memory.Store32(to, from.came)
	return 4
}

func (f *file) writeInterrupt(from, length uintptr) int64 {
	if length != 4 {
		return -EINVAL
	}
	if memory.Load32(from) == 0 {
		table.Disable(interrupts[f.number].id)
	} else {
		table.Enable(interrupts[f.number].id)
	}
	return 4
}

// leave ends one descriptor's use of an interrupt.
func (i *interrupt) leave() {
	if i.users--; i.users == 0 {
		table.Disable(i.id)
		i.id = 0
	}
}

// readText reads on in a text in memory.
func (f *file) readText(text, end, to, length uintptr) int64 {
	at := uintptr(0)
	for from := text + uintptr(f.count); at < length && from+at < end; at++ {
		memory.Store8(to+at, memory.Load8(from+at))
	}
	f.count += uint64(at)
	return int64(at)
}

// readBarriers gives the sum of all counts, in decimal; the end when it was read.
func (f *file) readBarriers(to, length uintptr) int64 {
	if f.count != 0 {
		return 0
	}
	total := memory.Load64(table.CountsEnd) // of places that found no room in the table
	for pair := table.Counts; pair < table.CountsEnd; pair += 16 {
		total += memory.Load64(pair)
	}
	digits := uintptr(1)
	for left := total; left >= 10; left /= 10 {
		digits++
	}
	if length < digits+1 {
		return -EINVAL
	}
	for at := digits; at > 0; at-- {
		memory.Store8(to+at-1, uint8('0'+total%10))
		total /= 10
	}
	memory.Store8(to+digits, '\n')
	f.count = 1
	return int64(digits + 1)
}
