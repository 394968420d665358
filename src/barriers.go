package main

import (
	"unsafe"

	"kernel/board"
)

// A mark is something to point to.
type mark struct {
	number uint64
}

// marks are the objects the checks point to.
var marks [8]mark

// Structs of one to four pointers. The compiler copies each as that many stores and
// makes one call for all: runtime.gcWriteBarrier2, 4, 6 or 8, as each store is recorded
// by its new and its old value. A nil stored needs no record of its own, which makes
// the odd ones. (Before Go 1.21, each store had its own call.)
type (
	single struct{ a *mark }
	pair   struct{ a, b *mark }
	triple struct{ a, b, c *mark }
	quad   struct{ a, b, c, d *mark }
)

// The pointers copied, and the place they are copied to.
var source, target quad

// storeShape stores so that the compiler emits the barrier for as many pointers as
// shape says: the first (shape+1)/2 pointers of target take those of source, and the
// last of them nil if shape is odd.
//
//go:noinline
func storeShape(shape uint64) {
	switch shape {
	case 1:
		*(*single)(unsafe.Pointer(&target)) = single{nil}
	case 2:
		*(*single)(unsafe.Pointer(&target)) = single{source.a}
	case 3:
		*(*pair)(unsafe.Pointer(&target)) = pair{source.a, nil}
	case 4:
		*(*pair)(unsafe.Pointer(&target)) = *(*pair)(unsafe.Pointer(&source))
	case 5:
		*(*triple)(unsafe.Pointer(&target)) = triple{source.a, source.b, nil}
	case 6:
		*(*triple)(unsafe.Pointer(&target)) = *(*triple)(unsafe.Pointer(&source))
	case 7:
		target = quad{source.a, source.b, source.c, nil}
	case 8:
		target = source
	}
}

// storeWatched calls storeShape with register x25 holding canary, and gives what x25
// held afterwards: the slots of the barrier called, if barriers hand out slots.
func storeWatched(shape uint64, canary uintptr) uintptr

// canary is memory no barrier may touch. A caller writes up to 8 words where x25
// points, so this is what a barrier that leaves x25 alone destroys.
var canary [8]uint64

const canaryWord = 0x00c0ffee_00c0ffee

// checkSlots checks where each of the barriers has the compiler's code write to.
func checkSlots(table *board.Table) string {
	for i := range canary {
		canary[i] = canaryWord
	}
	for shape := uint64(1); shape <= 8; shape++ {
		slots := storeWatched(shape, address(&canary))

		for i := uintptr(0); i < uintptr(len(canary)); i++ {
			if storedWord(unsafe.Pointer(&canary), i) != canaryWord {
				return "x25 was left as it was, and the memory there written"
			}
		}
		if !slotsInR25 {
			continue
		}
		written := board.Range{Low: slots, End: slots + uintptr(shape)*8}
		if !table.RAM.Holds(written) {
			return "the slots are not in RAM"
		}
		if table.Heap.Overlaps(written) || table.Stack.Overlaps(written) {
			return "the slots are in the heap or the stack"
		}
	}
	return ""
}

// checkBarriers stores by each of the barriers and checks that all of it took place,
// and nothing else.
func checkBarriers() string {
	source = quad{&marks[0], &marks[1], &marks[2], &marks[3]}
	for shape := uint64(1); shape <= 8; shape++ {
		target = quad{&marks[4], &marks[5], &marks[6], &marks[7]}
		storeShape(shape)
		if fault := targetFault(shape); fault != "" {
			return fault
		}
	}
	return ""
}

// targetFault says what is wrong with target after storeShape; it is empty if all is
// well.
func targetFault(shape uint64) string {
	stores := uintptr(shape+1) / 2
	for i := uintptr(0); i < 4; i++ {
		word := storedWord(unsafe.Pointer(&target), i)
		switch {
		case i == stores-1 && shape%2 == 1:
			if word != 0 {
				return "a nil was not stored"
			}
		case i < stores:
			if word != address(&marks[i]) {
				return "a pointer was not stored"
			}
		case word != address(&marks[4+i]):
			return "a pointer beside those stored changed"
		}
	}
	return ""
}

// kept is stored to while many registers are in use.
var kept *mark

// storeAmid stores p while every other argument register is in use, and gives back
// what they hold. It is the same only if the barrier kept it: the compiler saves none
// of them around the call.
//
//go:noinline
func storeAmid(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o uint64, p *mark) (
	uint64, uint64, uint64, uint64, uint64, uint64, uint64, uint64,
	uint64, uint64, uint64, uint64, uint64, uint64, uint64,
) {
	kept = p
	return a, b, c, d, e, f, g, h, i, j, k, l, m, n, o
}

// checkRegisters checks that a store leaves alone what its function has in registers.
func checkRegisters() string {
	a, b, c, d, e, f, g, h, i, j, k, l, m, n, o := storeAmid(
		1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, &marks[1])
	if a != 1 || b != 2 || c != 3 || d != 4 || e != 5 || f != 6 || g != 7 || h != 8 || i != 9 ||
		j != 10 || k != 11 || l != 12 || m != 13 || n != 14 || o != 15 {
		return "a register changed"
	}
	if stored(&kept) != address(&marks[1]) {
		return "the pointer was not stored"
	}
	return ""
}
