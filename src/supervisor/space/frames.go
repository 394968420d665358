// Package space is the program's memory: which addresses it may use, and which pages of
// RAM are there. A page comes into being, as zeros, when it is first touched.
package space

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

// PageSize is that of the 4 KiB granule.
const PageSize = 4096

// frames are the pages of RAM nothing uses: those given back, linked by their first words, and those
// never used so far.
var frames struct {
	given     uintptr // the first that was given back, or 0
	next, end uintptr // the rest
	count     uintptr // all of them
	total     uintptr
}

// Free is how many pages of RAM nothing uses.
func Free() uintptr {
	return frames.count
}

// Total is how many there were.
func Total() uintptr {
	return frames.total
}

// Frame is a page of RAM filled with zeros, or 0 if there is none left.
func Frame() uintptr {
	page := frames.given
	switch {
	case page != 0:
		frames.given = uintptr(memory.Load64(page))
	case frames.next < frames.end:
		page = frames.next
		frames.next += PageSize
	default:
		return 0
	}
	frames.count--
	machine.Clear(page)
	return page
}

// Release gives a page of RAM back.
func Release(page uintptr) {
	memory.Store64(page, uint64(frames.given))
	frames.given = page
	frames.count++
}

func initFrames(low, end uintptr) {
	frames.next = (low + PageSize - 1) &^ (PageSize - 1)
	frames.end = end &^ (PageSize - 1)
	frames.count = (frames.end - frames.next) / PageSize
	frames.total = frames.count
}
