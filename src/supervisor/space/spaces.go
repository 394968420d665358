package space

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

// A Space is the addresses of one process. Two have one while a child that was made by vfork has not called execve.
type Space struct {
	root       uintptr // its level 1 table
	used, room int     // of its areas, while another is in use
	users      int     // processes
}

// mostSpaces is as many as there can be processes.
const mostSpaces = 64

var (
	spaces  [mostSpaces]Space
	current *Space  // whose addresses the core translates
	base    uintptr // the level 1 table boot code made
)

// begin makes the space of the first process, in which the image's data lies where it was linked.
func begin() bool {
	made := fresh(&spaces[0])
	if made == nil {
		return false
	}
	current = made
	root = made.root
	machine.Translate(root)
	return true
}

// New is a space in which only the machine is, and the program's data as it was in the beginning; nil if there is no
// RAM for it or there are too many.
func New() *Space {
	for at := 1; at < mostSpaces; at++ {
		if made := &spaces[at]; made.users == 0 {
			if fresh(made) == nil {
				return nil
			}
			if !parted(made.root) {
				made.users = 0
				empty(made.root)
				Release(made.root)
				return nil
			}
			return made
		}
	}
	return nil
}

// Current is the space whose addresses the core translates.
func Current() *Space {
	return current
}

// fresh gives a space the level 1 table of boot code, and its first user.
func fresh(made *Space) *Space {
	table := Frame()
	if table == 0 {
		return nil
	}
	for at := uintptr(0); at < entries*8; at += 8 {
		memory.Store64(table+at, memory.Load64(base+at))
	}
	*made = Space{root: table, users: 1}
	return made
}

// Share is the same space for one process more.
func (s *Space) Share() *Space {
	s.users++
	return s
}

// Enter has the core translate the addresses of this space.
func (s *Space) Enter() {
	if s == current {
		return
	}
	current.used, current.room = used, room
	current, root, used, room = s, s.root, s.used, s.room
	machine.Translate(root)
}

// Leave tells that a process does not use the space any more. What is in it is given back when nobody does; if the core
// translates its addresses, it goes on with the first one's.
func (s *Space) Leave() {
	if s.users--; s.users > 0 {
		return
	}
	spaces[0].Enter()
	empty(s.root)
	if s != &spaces[0] {
		Release(s.root)
		s.root = 0
		return
	}
	// The tables of the first stay, for the supervisor.
	for at := uintptr(0); at < entries*8; at += 8 {
		memory.Store64(root+at, memory.Load64(base+at))
	}
	s.users, used, room = 1, 0, 0
	machine.ForgetAll()
}

// empty gives back all that a level 1 table leads to and boot code's does not.
func empty(level1 uintptr) {
	for at := uintptr(0); at < entries; at++ {
		entry := memory.Load64(level1 + at*8)
		if old := memory.Load64(base + at*8); entry == old || entry&valid == 0 {
			continue
		} else {
			emptyLevel2(uintptr(entry&address), old, at<<level1Shift)
		}
	}
}

// emptyLevel2 does so for the GiB from low on, in the place of which the entry old is in boot code's table.
func emptyLevel2(level2 uintptr, old uint64, low uintptr) {
	for at := uintptr(0); at < entries; at++ {
		entry := memory.Load64(level2 + at*8)
		if entry&valid != 0 && entry != finer(old, at, level2Shift) {
			emptyLevel3(uintptr(entry&address), low+at<<level2Shift)
		}
	}
	Release(level2)
}

// emptyLevel3 does so for 2 MiB: of these only the program's own addresses, and its data, have pages of RAM that
// were given out.
func emptyLevel3(level3, low uintptr) {
	for at := uintptr(0); at < entries; at++ {
		place := low + at<<level3Shift
		held := memory.Load64(level3 + at*8)
		if held != 0 && (place >= areasLow || isOwn(place)) {
			Release(uintptr(held & address))
		}
	}
	Release(level3)
}

// finer is the entry at a place of the next level's table, as it follows from an entry of this level: from the table it
// leads to, or as part of the block it is. shift is how many bits of an address an entry of the next level leaves.
func finer(entry uint64, at uintptr, shift uint64) uint64 {
	switch {
	case entry&valid == 0:
		return 0
	case entry&table == table:
		return memory.Load64(uintptr(entry&address) + at*8)
	case shift == level3Shift: // Arm ARM: a page's descriptor has bit 1 set, a block's has not
		return entry | table | uint64(at)<<shift
	}
	return entry | uint64(at)<<shift
}
