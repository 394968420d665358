package files

import (
	"unsafe"

	"kernel/memory"
	"kernel/supervisor/space"
)

// Kinds and rights of a node, as Linux has them: include/uapi/linux/stat.h.
const (
	formatBits = 0o170000
	folderBits = 0o040000
	fileBits   = 0o100000
	deviceBits = 0o020000
	linkBits   = 0o120000
	rightBits  = 0o007777
)

const longestName = 255

// A node is a file or a folder of the tree. It is all in RAM, and gone with the machine.
type node struct {
	parent      *node
	first, last *node // what is in a folder, in the order of coming there
	next        *node // beside it; of nodes not in use, the next of those
	mode        uint32
	open        uint32  // descriptions of it, and processes whose working folder it is
	number      uint64  // inode
	order       uint64  // rises from one to the next in a folder
	changed     uint64  // nanoseconds since 1970
	size        uintptr // bytes in a file
	given       uintptr // where its bytes are in the bundle, until it is written to; else 0
	blocks      uintptr // a page of addresses of pages of addresses of pages; 0 if there are none
	device      kind    // of a device
	length      uint8
	name        [longestName]byte
}

var (
	root     *node
	spare    *node
	numbered uint64
	// now is nanoseconds since 1970.
	now func() uint64
)

// newNode is a node that is in no folder, or nil if there is no RAM for one.
func newNode(mode uint32) *node {
	if spare == nil {
		page := space.Frame()
		if page == 0 {
			return nil
		}
		size := (unsafe.Sizeof(node{}) + 7) &^ 7
		for at := uintptr(0); at+size <= space.PageSize; at += size {
			made := memory.At[node](page + at)
			made.next = spare
			spare = made
		}
	}
	made := spare
	spare = made.next
	*made = node{}
	numbered++
	made.mode, made.number, made.changed = mode, numbered, now()
	return made
}

// drop gives a node back, if no name and no descriptor leads to it.
func (n *node) drop() {
	if n.parent != nil || n.open > 0 || n == root || n == executable || n == link {
		return
	}
	n.truncate(0)
	n.next = spare
	spare = n
}

func (n *node) isFolder() bool {
	return n.mode&formatBits == folderBits
}

// child is what is called name in a folder, or nil.
func (n *node) child(name string) *node {
	for at := n.first; at != nil; at = at.next {
		if int(at.length) == len(name) && string(at.name[:at.length]) == name {
			return at
		}
	}
	return nil
}

// put adds a node to a folder, behind all others.
func (n *node) put(made *node, name string) {
	made.length = uint8(copy(made.name[:], name))
	made.parent, made.next = n, nil
	if n.last == nil {
		made.order = 1
		n.first = made
	} else {
		made.order = n.last.order + 1
		n.last.next = made
	}
	n.last = made
	n.changed = now()
}

// take takes a node out of a folder.
func (n *node) take(gone *node) {
	var before *node
	for at := n.first; at != gone; at = at.next {
		before = at
	}
	if before == nil {
		n.first = gone.next
	} else {
		before.next = gone.next
	}
	if n.last == gone {
		n.last = before
	}
	gone.parent, gone.next = nil, nil
	n.changed = now()
}

const (
	perPage  = space.PageSize / 8
	mostSize = perPage * perPage * space.PageSize // bytes in a file
)

// block is the page with the bytes of a file from at on, or 0 if there is none, or, with create, no RAM for it.
func (n *node) block(at uintptr, create bool) uintptr {
	if n.blocks == 0 {
		if !create {
			return 0
		}
		if n.blocks = space.Frame(); n.blocks == 0 {
			return 0
		}
	}
	found := n.blocks
	for _, index := range [2]uintptr{at / space.PageSize / perPage, at / space.PageSize % perPage} {
		entry := found + index*8
		found = uintptr(memory.Load64(entry))
		if found == 0 && create {
			found = space.Frame()
			memory.Store64(entry, uint64(found))
		}
		if found == 0 {
			return 0
		}
	}
	return found
}

// read copies bytes of a file, from at on, to memory that is there; it returns how many.
func (n *node) read(at, to, length uintptr) uintptr {
	if at >= n.size {
		return 0
	}
	if length > n.size-at {
		length = n.size - at
	}
	if n.given != 0 {
		copy(bytesAt(to, length), bytesAt(n.given+at, length))
		return length
	}
	for done := uintptr(0); done < length; {
		part := least(length-done, space.PageSize-(at+done)%space.PageSize)
		target := bytesAt(to+done, part)
		if block := n.block(at+done, false); block != 0 {
			copy(target, bytesAt(block+(at+done)%space.PageSize, part))
		} else {
			zero(target)
		}
		done += part
	}
	return length
}

// write copies memory that is there to a file, from at on; it returns how many bytes, or an error if none.
func (n *node) write(at, from, length uintptr) int64 {
	if at >= mostSize {
		return -EFBIG
	}
	if !n.own() {
		return -ENOSPC
	}
	length = least(length, mostSize-at)
	done := uintptr(0)
	for done < length {
		block := n.block(at+done, true)
		if block == 0 {
			break
		}
		offset := (at + done) % space.PageSize
		part := least(length-done, space.PageSize-offset)
		copy(bytesAt(block+offset, part), bytesAt(from+done, part))
		done += part
	}
	if at+done > n.size {
		n.size = at + done
	}
	n.changed = now()
	if done == 0 && length > 0 {
		return -ENOSPC
	}
	return int64(done)
}

// own sees to it that a file's bytes can be written; it tells whether there was RAM for that.
func (n *node) own() bool {
	if n.given == 0 {
		return true
	}
	for at := uintptr(0); at < n.size; at += space.PageSize {
		block := n.block(at, true)
		if block == 0 {
			n.release(0)
			return false
		}
		part := least(n.size-at, space.PageSize)
		copy(bytesAt(block, part), bytesAt(n.given+at, part))
	}
	n.given = 0
	return true
}

// truncate makes a file that long: what is added are zeros, which take no RAM.
func (n *node) truncate(size uintptr) int64 {
	if size > mostSize {
		return -EFBIG
	}
	if size == 0 {
		n.given = 0
	}
	if !n.own() {
		return -ENOSPC
	}
	if size < n.size {
		n.release(size)
	}
	n.size, n.changed = size, now()
	return 0
}

// release gives back the pages of a file behind its first bytes, and clears what is left of the last.
func (n *node) release(size uintptr) {
	if n.blocks == 0 {
		return
	}
	if rest := size % space.PageSize; rest != 0 {
		if block := n.block(size, false); block != 0 {
			zero(bytesAt(block+rest, space.PageSize-rest))
		}
	}
	kept := (size + space.PageSize - 1) / space.PageSize
	for outer := uintptr(0); outer < perPage; outer++ {
		entry := n.blocks + outer*8
		inner := uintptr(memory.Load64(entry))
		if inner == 0 || (outer+1)*perPage <= kept {
			continue
		}
		for at := uintptr(0); at < perPage; at++ {
			if page := uintptr(memory.Load64(inner + at*8)); page != 0 && outer*perPage+at >= kept {
				space.Release(page)
				memory.Store64(inner+at*8, 0)
			}
		}
		if outer*perPage >= kept {
			space.Release(inner)
			memory.Store64(entry, 0)
		}
	}
	if size == 0 {
		space.Release(n.blocks)
		n.blocks = 0
	}
}

func least(one, other uintptr) uintptr {
	if one < other {
		return one
	}
	return other
}

// bytesAt is memory as a slice; it must be there.
func bytesAt(address, length uintptr) []byte {
	return unsafe.Slice(memory.At[byte](address), length)
}

func zero(bytes []byte) {
	for at := range bytes {
		bytes[at] = 0
	}
}
