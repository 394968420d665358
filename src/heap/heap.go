// Package heap hands out and takes back blocks of one range of memory.
//
// The range is cut into segments without gaps, each a header followed by its data,
// linked in the order of their addresses. No two free segments are neighbours: Free
// merges them. The first segment's header never moves, so a pointer to it *is* the
// heap:
//
//	first := memory.At[heap.Segment](start)
//	first.Init(length)
//	block := first.Allocate(100)
//	first.Free(block)
//
// Allocation is first fit, and both it and Free walk the list: simple, compact and
// good for the dozens or hundreds of blocks of a small kernel. There is no lock; one
// core at a time may use a heap.
package heap

import "unsafe"

// Alignment of every header and every block, in bytes: what AAPCS64 asks of any type.
const Alignment = 16

// headerSize is the distance from a segment to its data, in bytes.
const headerSize = (unsafe.Sizeof(Segment{}) + Alignment - 1) &^ (Alignment - 1)

// A Segment is the header of one piece of the heap.
type Segment struct {
	next        *Segment // the segment right after this one's data, nil after the last
	size        uintptr  // bytes of data, a multiple of Alignment
	isAllocated uint32   // 1 while the data belongs to a caller of Allocate, else 0
}

// Init makes the length bytes from first on one free segment; a last few that Alignment
// does not divide are left out. first must be aligned, length more than a header and
// Alignment bytes. What was there before is of no matter.
func (first *Segment) Init(length uintptr) {
	first.next = nil
	first.size = length&^(Alignment-1) - headerSize
	first.isAllocated = 0
}

// Allocate gives size bytes, of any content, from the heap that begins with first.
// It is nil if size is 0 or no free segment is large enough.
func (first *Segment) Allocate(size uintptr) unsafe.Pointer {
	rounded := (size + Alignment - 1) &^ (Alignment - 1)
	if rounded < size || size == 0 { // the sum ran over
		return nil
	}
	for s := first; s != nil; s = s.next {
		if s.isAllocated == 0 && s.size >= rounded {
			s.split(rounded)
			s.isAllocated = 1
			return s.Data()
		}
	}
	return nil
}

// Free takes back a block that Allocate gave. It is false, and nothing changes, if
// block is no such block or was taken back before.
func (first *Segment) Free(block unsafe.Pointer) bool {
	var before *Segment // the segment in front of s
	for s := first; s != nil; before, s = s, s.next {
		if s.Data() != block {
			continue
		}
		if s.isAllocated == 0 {
			return false
		}
		s.isAllocated = 0
		s.absorbNext()
		if before != nil && before.isAllocated == 0 {
			before.absorbNext()
		}
		return true
	}
	return false
}

// split cuts s down to size bytes of data and makes the rest a free segment, if the
// rest is enough for a header and the smallest block.
func (s *Segment) split(size uintptr) {
	if s.size-size < headerSize+Alignment {
		return
	}
	rest := (*Segment)(unsafe.Add(s.Data(), size))
	rest.next = s.next
	rest.size = s.size - size - headerSize
	rest.isAllocated = 0
	s.next = rest
	s.size = size
}

// absorbNext makes the segment after s part of it, if there is one and it is free.
func (s *Segment) absorbNext() {
	next := s.next
	if next == nil || next.isAllocated != 0 {
		return
	}
	s.size += headerSize + next.size
	s.next = next.next
}

// Next is the segment after s, nil after the last.
func (s *Segment) Next() *Segment {
	return s.next
}

// Data is the first byte of the segment's data.
func (s *Segment) Data() unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(s), headerSize)
}

// Size is the number of bytes of the segment's data.
func (s *Segment) Size() uintptr {
	return s.size
}

// Allocated tells whether the data belongs to a caller of Allocate.
func (s *Segment) Allocated() bool {
	return s.isAllocated != 0
}

// Fault says which rule of the package the heap of length bytes that begins with
// first breaks; it is empty if all hold. It follows no pointer it has not checked.
func (first *Segment) Fault(length uintptr) string {
	end := uintptr(unsafe.Pointer(first)) + length&^(Alignment-1)
	for s := first; ; s = s.next {
		data := uintptr(s.Data())
		switch {
		case s.size == 0 || s.size%Alignment != 0:
			return "a segment has an impossible size"
		case data > end || s.size > end-data:
			return "a segment reaches beyond the heap"
		case s.isAllocated > 1:
			return "a segment is neither free nor allocated"
		case s.next == nil && data+s.size != end:
			return "the list ends before the heap does"
		case s.next == nil:
			return ""
		case uintptr(unsafe.Pointer(s.next)) != data+s.size:
			return "a segment does not begin where the one before it ends"
		case s.isAllocated == 0 && s.next.isAllocated == 0:
			return "two free segments are neighbours"
		}
	}
}
