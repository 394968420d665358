package files

import (
	"kernel/memory"
	"kernel/supervisor/space"
)

// Operations of epoll_ctl.
const (
	opAdd    = 1
	opDelete = 2
	opModify = 3
	ePERM    = 1
)

const eventBytes = 16 // struct epoll_event on arm64: events, padding, data

// NewSet makes a set of descriptors to wait for.
func NewSet(flags uint64) int64 {
	for at := range sets {
		if sets[at] == nil {
			page := space.Frame()
			if page == 0 {
				return -ENOMEM
			}
			sets[at] = memory.At[set](page)
		}
		if sets[at].users > 0 {
			continue
		}
		found := add(file{kind: epoll, number: int32(at), closes: flags&CloseAtExec != 0})
		if found >= 0 {
			*sets[at] = set{}
			sets[at].users, sets[at].owner = 1, files
		}
		return found
	}
	return -EMFILE
}

// setOf is the set of a descriptor, or nil. One that a child inherited is its parent's: the members are descriptors of
// that one.
func setOf(descriptor uint64) *set {
	if file := open(descriptor); file != nil && file.kind == epoll && sets[file.number].owner == files {
		return sets[file.number]
	}
	return nil
}

// Change adds a descriptor to a set, or modifies or deletes it. The event, struct epoll_event, must be there.
func Change(descriptor, operation, member uint64, what uintptr) int64 {
	set, file := setOf(descriptor), open(member)
	if set == nil || file == nil {
		return -EBADF
	}
	switch file.kind {
	case event, pipeRead, pipeWrite, network, interruption:
	default:
		return -ePERM // as for a file of a disk: it can always be read
	}
	found := set.find(int(member))
	if operation == opAdd && found != nil {
		return -EEXIST
	}
	if operation != opAdd && found == nil {
		return -ENOENT
	}
	if operation == opDelete {
		set.remove(int(member))
		return 0
	}
	if found == nil {
		for at := range set.members {
			if set.members[at].descriptor == 0 {
				found = &set.members[at]
				break
			}
		}
		if found == nil {
			return -ENOMEM
		}
		found.descriptor = int(member) + 1
	}
	found.events, found.data, found.moves = memory.Load32(what), memory.Load64(what+8), 0
	return 0
}

func (s *set) find(descriptor int) *member {
	for at := range s.members {
		if s.members[at].descriptor == descriptor+1 {
			return &s.members[at]
		}
	}
	return nil
}

func (s *set) remove(descriptor int) {
	if found := s.find(descriptor); found != nil {
		found.descriptor = 0
	}
}

// Collect writes up to most events of a set to memory that is there; it returns how many.
func Collect(descriptor uint64, to uintptr, most uint64) int64 {
	set := setOf(descriptor)
	if set == nil {
		return -EBADF
	}
	count := uint64(0)
	for step := 0; step < mostInSet && count < most; step++ {
		at := (set.turn + step) % mostInSet
		member := &set.members[at]
		if member.descriptor == 0 {
			continue
		}
		ready, moves := set.owner[member.descriptor-1].ready()
		ready &= member.events | failed | hangUp
		if ready == 0 || member.events&edge != 0 && member.moves == moves+1 {
			continue
		}
		member.moves = moves + 1
		if member.events&once != 0 {
			member.events = 0
		}
		memory.Store32(to, ready)
		memory.Store32(to+4, 0)
		memory.Store64(to+8, member.data)
		to += eventBytes
		count++
	}
	set.turn = (set.turn + 1) % mostInSet
	return int64(count)
}
