package files

import (
	"kernel/memory"
	"kernel/supervisor/space"
)

// Sockets of the machine with itself: TCP over IPv4 from 127.0.0.0/8 to there, and those of unix.go. A connection is
// two pipes.

// Errors: include/uapi/asm-generic/errno.h.
const (
	EMSGSIZE        = 90
	EPROTOTYPE      = 91
	ENOPROTOOPT     = 92
	EPROTONOSUPPORT = 93
	EAFNOSUPPORT    = 97
	EADDRINUSE      = 98
	EADDRNOTAVAIL   = 99
	ENETUNREACH     = 101
	EISCONN         = 106
	ENOTCONN        = 107
	ECONNREFUSED    = 111
)

// Of socket: include/linux/socket.h, net.h; include/uapi/linux/in.h.
const (
	familyIPv4   = 2
	kindBits     = 0xf
	kindStream   = 1
	kindPackets  = 5 // SOCK_SEQPACKET
	protocolTCP  = 6
	loopback     = 127 // the first byte of every address of this machine
	addressBytes = 16  // struct sockaddr_in
	mostAddress  = 111 // of a struct sockaddr_un, with a zero byte
)

const (
	mostSockets = 128
	mostWaiting = 16 // connections nobody has accepted
	firstPort   = 32768
	lastPort    = 60999 // Documentation/networking/ip-sysctl.rst, ip_local_port_range
)

// A socket is a listener, or one end of a connection, or not yet either.
type socket struct {
	users                 int
	unix, packets         bool
	listening, connected  bool
	sends                 bool // nothing was shut down
	in, out               int  // pipes
	address, port         uint32
	peerAddress, peerPort uint32
	waiting               [mostWaiting]int // sockets that are the other ends of connections
	first, count          int
	moves                 uint64
	name, peerName        label // of unix sockets
	place                 *node // of one that was bound to a path
}

var (
	sockets  [mostSockets]socket
	lastUsed uint32
)

func socketOf(descriptor uint64) (*socket, int64) {
	file := open(descriptor)
	if file == nil {
		return nil, -EBADF
	}
	if file.kind != network {
		return nil, -ENOTSOCK
	}
	return &sockets[file.number], 0
}

// ENOTSOCK tells that the descriptor is of no socket.
const ENOTSOCK = 88

// newSocket is the index of a socket nobody uses, or an error.
func newSocket() int64 {
	for at := range sockets {
		if sockets[at].users == 0 {
			sockets[at] = socket{users: 1, in: -1, out: -1, sends: true}
			return int64(at)
		}
	}
	return -EMFILE
}

// Socket is socket(family, kind, protocol).
func Socket(family, kind, protocol uint64) int64 {
	unix, packets := family == familyUnix, kind&kindBits == kindPackets
	switch {
	case !unix && family != familyIPv4:
		return -EAFNOSUPPORT
	case kind&kindBits != kindStream && !(unix && packets):
		return -EPROTONOSUPPORT
	case protocol != 0 && (unix || protocol != protocolTCP):
		return -EPROTONOSUPPORT
	}
	made := newSocket()
	if made < 0 {
		return made
	}
	sockets[made].unix, sockets[made].packets = unix, packets
	return describe(made, kind)
}

// describe is a descriptor of a socket, which is given back if there is none.
func describe(number int64, flags uint64) int64 {
	made := file{kind: network, number: int32(number), flags: uint16(flags)&Nonblocking | ReadWrite}
	made.closes = flags&CloseAtExec != 0
	opened := add(made)
	if opened < 0 {
		sockets[number].close()
	}
	return opened
}

// addressAt is the struct sockaddr_in at place, which is there: address and port, and 0 or an error.
func addressAt(place uintptr) (uint32, uint32, int64) {
	if memory.Load8(place) != familyIPv4 || memory.Load8(place+1) != 0 {
		return 0, 0, -EAFNOSUPPORT
	}
	port := uint32(memory.Load8(place+2))<<8 | uint32(memory.Load8(place+3))
	return memory.Load32(place + 4), port, 0
}

// store writes a struct sockaddr_in to where; it returns its length.
func store(where *[mostAddress]byte, address, port uint32) int64 {
	where[0] = familyIPv4
	where[2], where[3] = uint8(port>>8), uint8(port)
	for at := 0; at < 4; at++ {
		where[4+at] = uint8(address >> (8 * at))
	}
	return addressBytes
}

func isOwn(address uint32) bool {
	return address == 0 || address&0xff == loopback
}

func listenerAt(port uint32) *socket {
	for at := range sockets {
		if socket := &sockets[at]; socket.users > 0 && socket.listening && !socket.unix && socket.port == port {
			return socket
		}
	}
	return nil
}

// freePort is a port nobody has.
func freePort() uint32 {
	for {
		if lastUsed++; lastUsed < firstPort || lastUsed > lastPort {
			lastUsed = firstPort
		}
		taken := false
		for at := range sockets {
			taken = taken || sockets[at].users > 0 && sockets[at].port == lastUsed
		}
		if !taken {
			return lastUsed
		}
	}
}

// Bind gives a socket the address of length bytes at place, which are there.
func Bind(descriptor uint64, place, length uintptr) int64 {
	socket, failed := socketOf(descriptor)
	switch {
	case failed != 0:
		return failed
	case socket.unix:
		return socket.bindUnix(place, length)
	case length < addressBytes:
		return -EINVAL
	}
	address, port, failed := addressAt(place)
	switch {
	case failed != 0:
		return failed
	case socket.port != 0:
		return -EINVAL
	case !isOwn(address):
		return -EADDRNOTAVAIL
	case port != 0 && listenerAt(port) != nil:
		return -EADDRINUSE
	case port == 0:
		port = freePort()
	}
	socket.address, socket.port = address, port
	return 0
}

// Listen has a socket take connections.
func Listen(descriptor uint64) int64 {
	socket, failed := socketOf(descriptor)
	if failed != 0 {
		return failed
	}
	if socket.connected {
		return -EINVAL
	}
	if socket.unix && socket.name.length == 0 {
		return -EINVAL
	}
	if socket.port == 0 && !socket.unix {
		socket.port = freePort()
	}
	socket.listening = true
	return 0
}

// Connect connects a socket to the address of length bytes at place, which are there: at once, or not at all.
func Connect(descriptor uint64, place, length uintptr) int64 {
	socket, failed := socketOf(descriptor)
	switch {
	case failed != 0:
		return failed
	case socket.connected:
		return -EISCONN
	case socket.unix:
		return open(descriptor).wait(socket.connectUnix(place, length))
	case length < addressBytes:
		return -EINVAL
	}
	address, port, failed := addressAt(place)
	if failed != 0 {
		return failed
	}
	if !isOwn(address) {
		return -ENETUNREACH
	}
	if address == 0 {
		address = loopback | 1<<24
	}
	listener := listenerAt(port)
	if listener == nil || listener.count == mostWaiting {
		return -ECONNREFUSED
	}
	other := socket.join(listener)
	if other == nil {
		return -ENOMEM
	}
	if socket.port == 0 {
		socket.port = freePort()
	}
	socket.address, socket.peerAddress, socket.peerPort = address, address, port
	other.address, other.port, other.peerAddress, other.peerPort = address, port, address, socket.port
	return 0
}

// join makes the other end of a connection, which waits to be accepted; nil if there is no room for one.
func (s *socket) join(listener *socket) *socket {
	other := newSocket()
	if other < 0 {
		return nil
	}
	there, back := newPipe(), newPipe()
	if there < 0 || back < 0 {
		if there >= 0 {
			pipes[there].give()
		}
		sockets[other].users = 0
		return nil
	}
	s.in, s.out, s.connected = back, there, true
	end := &sockets[other]
	end.in, end.out, end.connected = there, back, true
	end.unix, end.packets = s.unix, s.packets
	listener.waiting[(listener.first+listener.count)%mostWaiting] = int(other)
	listener.count++
	listener.moves++
	return end
}

// Accept is accept4, of the descriptor and the flags: a descriptor of the next connection.
func Accept(descriptor, flags uint64) int64 {
	socket, failed := socketOf(descriptor)
	if failed != 0 {
		return failed
	}
	if !socket.listening {
		return -EINVAL
	}
	if socket.count == 0 {
		return open(descriptor).wait(Later)
	}
	other := socket.waiting[socket.first]
	socket.first = (socket.first + 1) % mostWaiting
	socket.count--
	socket.moves++
	return describe(int64(other), flags)
}

// Name writes the address of a socket, or of its peer, to room bytes of memory that are there, as far as they reach; it
// returns how many bytes the address has, or an error.
func Name(descriptor uint64, peer bool, to, room uintptr) int64 {
	socket, failed := socketOf(descriptor)
	if failed != 0 {
		return failed
	}
	if peer && !socket.connected {
		return -ENOTCONN
	}
	written, length := [mostAddress]byte{}, int64(0)
	switch {
	case socket.unix && peer:
		length = socket.peerName.describe(&written)
	case socket.unix:
		length = socket.name.describe(&written)
	case peer:
		length = store(&written, socket.peerAddress, socket.peerPort)
	default:
		length = store(&written, socket.address, socket.port)
	}
	copy(bytesAt(to, room), written[:length])
	return length
}

// SocketKind is the kind of socket that a descriptor is of, or an error.
func SocketKind(descriptor uint64) int64 {
	socket, failed := socketOf(descriptor)
	switch {
	case failed != 0:
		return failed
	case socket.packets:
		return kindPackets
	}
	return kindStream
}

// Shutdown is shutdown: include/linux/net.h, SHUT_RD, SHUT_WR, SHUT_RDWR.
func Shutdown(descriptor, how uint64) int64 {
	socket, failed := socketOf(descriptor)
	if failed != 0 {
		return failed
	}
	if !socket.connected {
		return -ENOTCONN
	}
	if how != 0 && socket.sends {
		socket.sends = false
		pipes[socket.out].leave(false)
	}
	return 0
}

// close is called for each descriptor that is closed.
func (s *socket) close() {
	if s.users--; s.users > 0 {
		return
	}
	if s.connected {
		pipes[s.in].leave(true)
		if s.sends {
			pipes[s.out].leave(false)
		}
	}
	for ; s.count > 0; s.count-- {
		sockets[s.waiting[s.first]].close()
		s.first = (s.first + 1) % mostWaiting
	}
	if s.place != nil {
		s.place.leave()
	}
	*s = socket{}
}

func (s *socket) read(to, length uintptr) int64 {
	if !s.connected {
		return -ENOTCONN
	}
	if s.packets {
		return pipes[s.in].readPacket(to, length)
	}
	return pipes[s.in].read(to, length)
}

func (s *socket) write(from, length uintptr) int64 {
	switch {
	case !s.connected:
		return -ENOTCONN
	case !s.sends:
		return -EPIPE
	case s.packets:
		return pipes[s.out].writePacket(from, length)
	}
	return pipes[s.out].write(from, length)
}

func (s *socket) ready() (uint32, uint64) {
	if s.listening {
		if s.count > 0 {
			return in, s.moves
		}
		return 0, s.moves
	}
	if !s.connected {
		return out | hangUp, 0
	}
	from, to := &pipes[s.in], &pipes[s.out]
	events := uint32(0)
	if from.length > 0 {
		events |= in
	}
	if from.writers == 0 {
		events |= in | readEnd
	}
	if !s.sends || to.readers == 0 || to.length < space.PageSize {
		events |= out
	}
	if from.writers == 0 && (!s.sends || to.readers == 0) {
		events |= hangUp
	}
	return events, from.moves + to.moves
}
