package entropy

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

// Registers of a virtio device on the memory-mapped transport, legacy interface: Virtual I/O Device Specification
// 1.1, 4.2.4, and of the entropy device, 5.4.
const (
	magicValue    = 0x000
	version       = 0x004
	deviceID      = 0x008
	guestFeatures = 0x020
	guestPageSize = 0x028
	queueSelect   = 0x030
	queueSize     = 0x038
	queueAlign    = 0x03c
	queuePage     = 0x040
	queueNotify   = 0x050
	deviceStatus  = 0x070

	magic         = 0x74726976
	legacy        = 1
	entropyDevice = 4
	slots, slot   = 32, 0x200 // transports, and the bytes of one: QEMU's hw/arm/virt.c, VIRT_MMIO

	acknowledged, driver, driverOK = 1, 2, 4 // 2.1

	// The queue, 2.6: descriptors, the ring of what is available, and on another page that of what is used.
	size      = 8 // descriptors, of 16 bytes each
	available = 16 * size
	used      = pageSize
	forDevice = 2 // VIRTQ_DESC_F_WRITE
	pageSize  = 4096
)

var virtio struct {
	device, queue uintptr
	// What the device gave and nobody had yet: the page behind the queue's two.
	next, left uintptr
	asked      uint16
}

// findVirtio sets up the first entropy device there; it tells whether there is one.
func findVirtio(base uintptr, page func() uintptr) bool {
	for at := base; at < base+slots*slot; at += slot {
		if memory.Load32(at+magicValue) != magic || memory.Load32(at+version) != legacy ||
			memory.Load32(at+deviceID) != entropyDevice {
			continue
		}
		queue, second, third := page(), page(), page()
		if queue == 0 || second != queue+pageSize || third != second+pageSize {
			return false
		}
		virtio.device, virtio.queue = at, queue
		memory.Store32(at+deviceStatus, 0)
		memory.Store32(at+deviceStatus, acknowledged|driver)
		memory.Store32(at+guestFeatures, 0)
		memory.Store32(at+guestPageSize, pageSize)
		memory.Store32(at+queueSelect, 0)
		memory.Store32(at+queueSize, size)
		memory.Store32(at+queueAlign, pageSize)
		memory.Store32(at+queuePage, uint32(queue/pageSize))
		memory.Store64(queue, uint64(third))
		memory.Store32(queue+8, pageSize)
		memory.Store32(queue+12, forDevice)
		memory.Store32(at+deviceStatus, acknowledged|driver|driverOK)
		return true
	}
	return false
}

// fromVirtio gives each byte the device gave once.
func fromVirtio(to, length uintptr) uintptr {
	if virtio.left == 0 && !refill() {
		return 0
	}
	if length > virtio.left {
		length = virtio.left
	}
	for at := uintptr(0); at < length; at++ {
		memory.Store8(to+at, memory.Load8(virtio.next+at))
		memory.Store8(virtio.next+at, 0)
	}
	virtio.next += length
	virtio.left -= length
	return length
}

func refill() bool {
	queue := virtio.queue
	virtio.asked++ // the ring always names descriptor 0
	machine.Published()
	memory.Store32(queue+available, uint32(virtio.asked)<<16)
	machine.Published()
	memory.Store32(virtio.device+queueNotify, 0)
	if !waits(func() bool { return uint16(memory.Load32(queue+used)>>16) == virtio.asked }) {
		return false
	}
	element := queue + used + 4 + uintptr(virtio.asked-1)%size*8
	virtio.next, virtio.left = queue+2*pageSize, uintptr(memory.Load32(element+4))
	return virtio.left != 0 && virtio.left <= pageSize
}
