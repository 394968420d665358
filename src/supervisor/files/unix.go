package files

import (
	"kernel/memory"
	"kernel/supervisor/space"
)

// Sockets of the family AF_UNIX: streams, and packets that are read as they were written. They are called by a path,
// or by a name that begins with a zero byte and is no file's.

// include/uapi/linux/un.h, stat.h.
const (
	familyUnix = 1
	familySize = 2   // bytes of the family, in front of the name
	mostName   = 108 // UNIX_PATH_MAX
	socketBits = 0o140000
	anyRights  = 0o777
)

// A label is what a socket is called, of length bytes: none if it has no name.
type label struct {
	length uint8
	text   [mostName]byte
}

// labelAt is the name in the struct sockaddr_un of length bytes at place, which are there; or an error.
func labelAt(place, length uintptr) (label, int64) {
	found := label{}
	if length <= familySize || length > familySize+mostName {
		return found, -EINVAL
	}
	if memory.Load8(place) != familyUnix || memory.Load8(place+1) != 0 {
		return found, -EINVAL
	}
	for ; uintptr(found.length) < length-familySize; found.length++ {
		byte := memory.Load8(place + familySize + uintptr(found.length))
		if byte == 0 && found.length > 0 && found.text[0] != 0 { // a path ends there
			break
		}
		found.text[found.length] = byte
	}
	return found, 0
}

func (l *label) isPath() bool {
	return l.length > 0 && l.text[0] != 0
}

// nodeAt is what is called by the path in a struct sockaddr_un at place: the folder of its last name, that name, and
// what is called so, nil if nothing is; or an error.
func (l *label) nodeAt(place uintptr) (*node, string, *node, int64) {
	path := textAt(place+familySize, uintptr(l.length))
	begin, failed := start(AtWorking, path)
	if failed != 0 {
		return nil, "", nil, failed
	}
	return find(begin, path)
}

// bindUnix gives a socket the name at place, and makes the file if that is a path.
func (s *socket) bindUnix(place, length uintptr) int64 {
	name, failed := labelAt(place, length)
	switch {
	case failed != 0:
		return failed
	case s.name.length > 0:
		return -EINVAL
	case !name.isPath():
		for at := range sockets {
			if sockets[at].isCalled(&name, s.packets) {
				return -EADDRINUSE
			}
		}
		s.name = name
		return 0
	}
	parent, last, found, failed := name.nodeAt(place)
	if failed != 0 {
		return failed
	}
	if found != nil {
		return -EADDRINUSE
	}
	made := newNode(socketBits | anyRights&^mask)
	if made == nil {
		return -ENOSPC
	}
	parent.put(made, last)
	made.open++
	s.name, s.place = name, made
	return 0
}

// isCalled tells whether a socket of a kind has a name that is no path: those of one kind are apart from the others.
func (s *socket) isCalled(name *label, packets bool) bool {
	return s.users > 0 && s.place == nil && s.packets == packets && s.name.length > 0 && s.name == *name
}

// listenerUnix is the socket that listens by the name at place, and 0; or nil and an error.
func (s *socket) listenerUnix(place, length uintptr) (*socket, int64) {
	name, failed := labelAt(place, length)
	if failed != 0 {
		return nil, failed
	}
	var wanted *node
	if name.isPath() {
		if _, _, wanted, failed = name.nodeAt(place); failed != 0 {
			return nil, failed
		}
		if wanted == nil {
			return nil, -ENOENT
		}
	}
	for at := range sockets {
		found := &sockets[at]
		called := wanted == nil && found.isCalled(&name, s.packets) || wanted != nil && found.place == wanted
		if called && found.listening {
			return found, 0
		}
	}
	return nil, -ECONNREFUSED
}

// connectUnix connects a socket to the one that listens by the name at place.
func (s *socket) connectUnix(place, length uintptr) int64 {
	listener, failed := s.listenerUnix(place, length)
	if failed != 0 {
		return failed
	}
	if listener.packets != s.packets {
		return -EPROTOTYPE
	}
	if listener.count == mostWaiting {
		return Later
	}
	other := s.join(listener)
	if other == nil {
		return -ENOMEM
	}
	other.name, s.peerName, other.peerName = listener.name, listener.name, s.name
	return 0
}

// describe writes a struct sockaddr_un to where; it returns its length.
func (l *label) describe(where *[mostAddress]byte) int64 {
	where[0] = familyUnix
	end := familySize + copy(where[familySize:], l.text[:l.length])
	if l.isPath() {
		end++ // a zero byte
	}
	return int64(end)
}

// headerBytes stand before each packet in a pipe: how many it has.
const headerBytes = 2

// readPacket reads the next packet: what there is no room for is lost.
func (p *pipe) readPacket(to, length uintptr) int64 {
	if p.length == 0 {
		if p.writers == 0 {
			return 0
		}
		return Later
	}
	size := uintptr(p.next())
	size |= uintptr(p.next()) << 8
	for at := uintptr(0); at < size; at++ {
		if byte := p.next(); at < length {
			memory.Store8(to+at, byte)
		}
	}
	p.moves++
	return int64(least(size, length))
}

// writePacket writes one packet, or nothing.
func (p *pipe) writePacket(from, length uintptr) int64 {
	switch {
	case p.readers == 0:
		return -EPIPE
	case length > space.PageSize-headerBytes:
		return -EMSGSIZE
	case length > space.PageSize-headerBytes-p.length || p.length > space.PageSize-headerBytes:
		return Later
	}
	p.add(uint8(length))
	p.add(uint8(length >> 8))
	for at := uintptr(0); at < length; at++ {
		p.add(memory.Load8(from + at))
	}
	p.moves++
	return int64(length)
}

// next takes a byte out of a pipe that has one, add puts one in where there is room.

func (p *pipe) next() uint8 {
	byte := memory.Load8(p.buffer + p.first)
	p.first = (p.first + 1) % space.PageSize
	p.length--
	return byte
}

func (p *pipe) add(byte uint8) {
	memory.Store8(p.buffer+(p.first+p.length)%space.PageSize, byte)
	p.length++
}
