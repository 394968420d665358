package main

import (
	"unsafe"

	"kernel/heap"
)

const (
	heapOperations = 4000 // as the check's line says
	lookedAfter    = 16   // operations: after so many all segments and blocks are looked at
	blockCount     = 64
	sizeBits       = 9       // blocks are of 1 to 1 << sizeBits bytes, small ones the most
	arena          = 2 << 10 // bytes left to the operations: little enough to run out of
)

// A block is one live result of kmalloc and what was written there.
type block struct {
	start unsafe.Pointer // nil if this entry is unused
	size  uint32
	seed  byte // its bytes are seed, seed+1, …
}

// blocks are the live blocks of checkHeap.
var blocks [blockCount]block

// checkHeap takes and gives back blocks at random and checks, each time, that a block
// kept its contents, and again and again that blocks keep apart, and the segment list.
func checkHeap() string {
	emptyHeap()
	// All but a small arena is taken away first, so that the operations run into the
	// end of the heap again and again.
	ballast := heapSegmentListHead.Allocate(heapSegmentListHead.Size() - arena)
	if ballast == nil {
		return "a block of nearly the whole heap was refused"
	}
	random, refused := generator(1), 0
	for i := 0; i < heapOperations; i++ {
		chosen, look := &blocks[random.below(blockCount)], i%lookedAfter == 0
		fault := ""
		if chosen.start != nil {
			fault = chosen.release()
		} else if fault = chosen.acquire(&random, look); chosen.start == nil {
			refused++
		}
		if fault == "" && look {
			fault = segmentsFault(ballast)
		}
		if fault != "" {
			return fault
		}
	}
	if refused == 0 || refused > heapOperations/4 {
		return "the operations did not run out of memory as they should"
	}

	for i := range blocks {
		if blocks[i].start != nil {
			if fault := blocks[i].release(); fault != "" {
				return fault
			}
		}
	}
	if !kfree(ballast) {
		return "the large block was not taken back"
	}
	if kfree(ballast) || kfree(nil) || kfree(unsafe.Add(ballast, heap.Alignment)) {
		return "something that is no block was taken back"
	}
	return heapFault()
}

// acquire gets memory of a random size for b and fills it. b stays unused if the heap
// has no segment that large, and only then. That no other block is there is looked at
// now if look says so, and otherwise when the other is given back.
func (b *block) acquire(random *generator, look bool) string {
	size := 1 + uint32(random.below(1<<(1+random.below(sizeBits))))
	start := kmalloc(size)
	if start == nil {
		if largestFree() >= uintptr(size)+heap.Alignment {
			return "a block was refused though a segment could hold it"
		}
		return ""
	}
	for i := 0; look && i < blockCount; i++ {
		if other := &blocks[i]; other.start != nil && overlap(start, size, other.start, other.size) {
			return "two blocks overlap"
		}
	}
	b.start, b.size, b.seed = start, size, byte(random.below(256))
	for i, bytes := 0, b.bytes(); i < len(bytes); i++ {
		bytes[i] = b.seed + byte(i)
	}
	return ""
}

// release checks that b's memory is as it was filled and gives it back.
func (b *block) release() string {
	for i, bytes := 0, b.bytes(); i < len(bytes); i++ {
		if bytes[i] != b.seed+byte(i) {
			return "a block's contents changed"
		}
	}
	if !kfree(b.start) {
		return "a block was not taken back"
	}
	b.start = nil
	return ""
}

// bytes is b's memory.
func (b *block) bytes() []byte {
	return unsafe.Slice((*byte)(b.start), int(b.size))
}

// segmentsFault says what is wrong with the segment list, given that its allocated
// segments should be the ballast and the live blocks; it is empty if all is well.
func segmentsFault(ballast unsafe.Pointer) string {
	if fault := heapSegmentListHead.Fault(heapLength); fault != "" {
		return fault
	}
	allocated := 0
	for s := heapSegmentListHead; s != nil; s = s.Next() {
		if s.Allocated() && s.Data() != ballast {
			allocated++
		}
	}
	for i := range blocks {
		if blocks[i].start != nil {
			allocated--
		}
	}
	if allocated != 0 {
		return "the list and the blocks in use differ in number"
	}
	return ""
}

// largestFree is the size of the largest free segment, in bytes.
func largestFree() uintptr {
	largest := uintptr(0)
	for s := heapSegmentListHead; s != nil; s = s.Next() {
		if !s.Allocated() && s.Size() > largest {
			largest = s.Size()
		}
	}
	return largest
}

// overlap tells whether two blocks, each of an address and a size, share a byte.
func overlap(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) bool {
	return uintptr(a) < uintptr(b)+uintptr(bSize) && uintptr(b) < uintptr(a)+uintptr(aSize)
}

// A generator makes the same numbers in every run. It must not be 0.
// Source: Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14), 2003.
type generator uint64

// below is the next number, from 0 up to but not including limit.
func (g *generator) below(limit uint64) uint64 {
	*g ^= *g << 13
	*g ^= *g >> 7
	*g ^= *g << 17
	return uint64(*g) >> 16 % limit
}
