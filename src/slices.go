package main

import "unsafe"

// row is the static array behind every slice here.
var row [8]*mark

// Slices stored to: a global, and one inside a struct with a string beside it.
var (
	window []*mark
	view   struct {
		title string
		marks []*mark
	}
)

// slide stores a part of row, and the same with a title, without the heap.
//
//go:noinline
func slide(part []*mark, title string) {
	window = part
	view.marks = part
	view.title = title
}

// put stores pointers through the slice, not the array.
//
//go:noinline
func put() {
	for i := range window {
		window[i] = &marks[i&7]
	}
}

// checkSlices stores slices of a static array and stores pointers through them.
func checkSlices() string {
	const title = "a title"
	slide(row[2:6], title)
	if fault := sliceFault(2, 4); fault != "" {
		return fault
	}
	if view.title != title {
		return "a string is not the one stored"
	}

	put()
	for i := range row {
		expected := uintptr(0)
		if 2 <= i && i < 6 {
			expected = address(&marks[i-2])
		}
		if stored(&row[i]) != expected {
			return "a pointer stored through a slice is not in its array"
		}
	}

	slide(window[1:3], title[2:])
	if fault := sliceFault(3, 2); fault != "" {
		return fault
	}
	if window[0] != &marks[1] || view.marks[1] != &marks[2] {
		return "a slice moved along its array does not see what was stored"
	}
	slide(nil, "")
	if storedWord(unsafe.Pointer(&window), 0) != 0 || len(window) != 0 {
		return "a nil slice was not stored"
	}
	return ""
}

// sliceFault says what is wrong with window and view.marks, which should be length
// elements of row from first. A slice is three words: pointer, length, capacity.
func sliceFault(first, length uintptr) string {
	for _, place := range [...]unsafe.Pointer{unsafe.Pointer(&window), unsafe.Pointer(&view.marks)} {
		switch {
		case storedWord(place, 0) != address(&row[first]):
			return "a slice does not begin where it should"
		case storedWord(place, 1) != length:
			return "a slice has the wrong length"
		case storedWord(place, 2) != uintptr(len(row))-first:
			return "a slice has the wrong capacity"
		}
	}
	return ""
}
