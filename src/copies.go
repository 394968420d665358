package main

import "unsafe"

// A record is too large to be copied pointer by pointer: the compiler moves it whole,
// by runtime.wbMove and a copy of memory, and clears it by runtime.wbZero (up to Go
// 1.20: runtime.typedmemmove, runtime.typedmemclr). Words that are no pointers lie
// between, so that a copy of the pointers alone would show.
type record struct {
	first   *mark
	number  uint64
	many    [9]*mark
	text    [5]uint64
	last    *mark
	trailer uint64
}

const recordWords = unsafe.Sizeof(record{}) / 8

// A shelf is a record and a word on each side that no copy may touch.
type shelf struct {
	before uint64
	record
	after uint64
}

const guard = 0x5afe5afe_5afe5afe

// original is copied, to a global and to the heap; both are cleared.
var original, global shelf

// Arrays of pointers: copied and cleared as records are.
var arrayFrom, arrayTo [12]*mark

// moveRecord copies a record; the memory of both is known only at run time.
//
//go:noinline
func moveRecord(to, from *record) {
	*to = *from
}

// clearRecord makes a record zero.
//
//go:noinline
func clearRecord(r *record) {
	*r = record{}
}

// moveArray copies an array of pointers from one global to another.
//
//go:noinline
func moveArray() {
	arrayTo = arrayFrom
}

// clearArray makes an array of pointers all nil.
//
//go:noinline
func clearArray() {
	arrayTo = [12]*mark{}
}

// checkCopies copies and clears structs and arrays and compares them word by word.
func checkCopies() string {
	emptyHeap()
	fillRecord(&original.record)
	local := (*shelf)(kmalloc(uint32(unsafe.Sizeof(shelf{}))))
	if local == nil {
		return "no memory for a copy"
	}
	for _, copied := range [...]*shelf{&global, local} {
		copied.before, copied.after = guard, guard
		clearRecord(&copied.record) // of whatever the heap had there
		moveRecord(&copied.record, &original.record)
		for i := uintptr(0); i < recordWords; i++ {
			word := storedWord(unsafe.Pointer(&copied.record), i)
			if word == 0 || word != storedWord(unsafe.Pointer(&original.record), i) {
				return "a word of a struct was not copied"
			}
		}
		clearRecord(&copied.record)
		for i := uintptr(0); i < recordWords; i++ {
			if storedWord(unsafe.Pointer(&copied.record), i) != 0 {
				return "a word of a struct was not cleared"
			}
		}
		if storedWord(unsafe.Pointer(&copied.before), 0) != guard ||
			storedWord(unsafe.Pointer(&copied.after), 0) != guard {
			return "a word beside a struct changed"
		}
	}
	if !kfree(unsafe.Pointer(local)) {
		return "the copy's memory was not taken back"
	}

	for i := range arrayFrom {
		arrayFrom[i] = &marks[i%len(marks)]
	}
	moveArray()
	for i := range arrayFrom {
		if stored(&arrayTo[i]) != address(&marks[i%len(marks)]) {
			return "an element of an array was not copied"
		}
	}
	clearArray()
	for i := range arrayTo {
		if stored(&arrayTo[i]) != 0 {
			return "an element of an array was not cleared"
		}
	}
	return heapFault()
}

// fillRecord gives every word of a record a value other than zero.
//
//go:noinline
func fillRecord(r *record) {
	r.first, r.last = &marks[0], &marks[7]
	r.number, r.trailer = 1, 2
	for i := range r.many {
		r.many[i] = &marks[i%len(marks)]
	}
	for i := range r.text {
		r.text[i] = uint64(i) + 3
	}
}
