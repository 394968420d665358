package heap

import (
	"math/rand"
	"testing"
	"unsafe"
)

// newHeap is a heap in memory of the test's own.
func newHeap(length uintptr) *Segment {
	memory := unsafe.Pointer(&make([]byte, length+Alignment)[0])
	first := (*Segment)(unsafe.Add(memory, -uintptr(memory)%Alignment))
	first.Init(length)
	return first
}

// want fails the test if the heap breaks a rule.
func want(t *testing.T, first *Segment, length uintptr) {
	t.Helper()
	if fault := first.Fault(length); fault != "" {
		t.Fatal(fault)
	}
}

func TestBlocksFreedInAnyOrderLeaveOneSegment(t *testing.T) {
	const length = 1 << 16
	for seed := int64(0); seed < 50; seed++ {
		random, first := rand.New(rand.NewSource(seed)), newHeap(length)
		var blocks []unsafe.Pointer
		for {
			block := first.Allocate(uintptr(1 + random.Intn(2000)))
			if block == nil {
				break
			}
			want(t, first, length)
			blocks = append(blocks, block)
		}
		random.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		for _, block := range blocks {
			if !first.Free(block) {
				t.Fatal("a block was refused")
			}
			want(t, first, length)
		}
		if first.Next() != nil || first.Size() != length-headerSize {
			t.Fatalf("%d blocks freed, and more than one segment left", len(blocks))
		}
	}
}

func TestBlocksAreAlignedAndLargeEnough(t *testing.T) {
	first := newHeap(1 << 16)
	for size := uintptr(1); size < 100; size++ {
		block := uintptr(first.Allocate(size))
		next := uintptr(first.Allocate(1))
		if block%Alignment != 0 || next < block+size+headerSize {
			t.Fatalf("%d bytes at %#x, the next block at %#x", size, block, next)
		}
	}
}

func TestAllOfAHeapIsOneBlock(t *testing.T) {
	const length = 1 << 12
	first := newHeap(length)
	if first.Allocate(length-headerSize+1) != nil {
		t.Error("more than the heap was given")
	}
	if first.Allocate(length-headerSize) == nil {
		t.Error("the whole heap was refused")
	}
	if first.Allocate(1) != nil {
		t.Error("a byte was given of a heap in use")
	}
	want(t, first, length)
}

func TestImpossibleSizesAreRefused(t *testing.T) {
	first := newHeap(1 << 12)
	for _, size := range []uintptr{0, ^uintptr(0), ^uintptr(0) - Alignment + 2, 1 << 12} {
		if first.Allocate(size) != nil {
			t.Errorf("%#x bytes were given", size)
		}
	}
}

func TestFreeRefusesWhatIsNoBlock(t *testing.T) {
	const length = 1 << 12
	first := newHeap(length)
	block := first.Allocate(64)
	for _, wrong := range []unsafe.Pointer{nil, unsafe.Pointer(first), unsafe.Add(block, Alignment)} {
		if first.Free(wrong) {
			t.Errorf("%p was taken back", wrong)
		}
	}
	if !first.Free(block) || first.Free(block) {
		t.Error("a block is to be taken back once")
	}
	want(t, first, length)
}

func TestFaultFindsEachBrokenRule(t *testing.T) {
	const length = 1 << 12
	for name, damage := range map[string]func(first *Segment){
		"size zero":            func(first *Segment) { first.size = 0 },
		"size not aligned":     func(first *Segment) { first.size++ },
		"size beyond the heap": func(first *Segment) { first.next, first.size = nil, length },
		"state":                func(first *Segment) { first.isAllocated = 2 },
		"list cut short":       func(first *Segment) { first.next = nil },
		"gap":                  func(first *Segment) { first.size -= Alignment },
		"ring":                 func(first *Segment) { first.next.next = first },
		"free neighbours":      func(first *Segment) { first.next.isAllocated = 0 },
		"wild pointer":         func(first *Segment) { first.next = (*Segment)(unsafe.Add(unsafe.Pointer(first), 8)) },
	} {
		first := newHeap(length)
		first.Allocate(64)
		first.Allocate(64)
		first.Allocate(64)
		first.isAllocated = 0
		want(t, first, length)
		damage(first)
		if first.Fault(length) == "" {
			t.Errorf("%s: not found", name)
		}
	}
}
