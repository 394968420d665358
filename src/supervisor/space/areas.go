package space

import (
	"unsafe"

	"kernel/memory"
	"kernel/supervisor/machine"
)

// Rights to a page.
const (
	Read = 1 << iota
	Write
	Execute
	None = 0 // addresses that are reserved, and fault
)

// The program's addresses: what page tables of 39 bits can map above the machine's own. Go's heap
// begins at Low, by itself: src/runtime/malloc.go, mallocinit, arenaHints.
const (
	Low = 1 << 38
	End = 1 << 39
)

const mostAreas = 4096

// An area is neighbouring pages of the same rights, which the program asked for.
type area struct {
	low, end uintptr
	rights   uintptr
}

// areasLow is where each process has the table of its own areas, on as many pages as it needs: below the program's
// addresses, in a GiB where no board has anything.
const areasLow = Low - 1<<level1Shift

// areas are those of the process that runs, lowest first; neighbours of the same rights are one. There is room
// for so many.
var (
	areas *[mostAreas]area
	used  int
	room  int
)

// first is the index of the first area that ends above address.
func first(address uintptr) int {
	known := areas[:used]
	low, high := 0, len(known)
	for low < high {
		middle := int(uint(low+high) / 2)
		if known[middle].end > address {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// rightsAt are the rights to the page at address; false if the program did not ask for it.
func rightsAt(address uintptr) (uintptr, bool) {
	at, known := first(address), areas[:used]
	if at < len(known) && known[at].low <= address {
		return known[at].rights, true
	}
	return None, false
}

// isFree tells whether none of the addresses is in use.
func isFree(low, end uintptr) bool {
	at := first(low)
	return at == used || areas[at].low >= end
}

// isWhole tells whether all of the addresses are in use.
func isWhole(low, end uintptr) bool {
	for at := first(low); at < used && areas[at].low <= low; at++ {
		low = areas[at].end
		if low >= end {
			return true
		}
	}
	return low >= end
}

// findFree is the highest place for that many bytes, or 0.
func findFree(length uintptr) uintptr {
	end := uintptr(End)
	for at := used - 1; at >= 0; at-- {
		if end-areas[at].end >= length {
			return end - length
		}
		end = areas[at].low
	}
	if end-Low >= length {
		return end - length
	}
	return 0
}

// remove takes low up to end out of whatever areas they are in. There must be room for one more area.
func remove(low, end uintptr) {
	at := first(low)
	if at == used || areas[at].low >= end {
		return
	}
	if areas[at].low < low {
		if areas[at].end > end { // a hole in the middle of one
			shift(at, 1)
			areas[at].end = low
			areas[at+1].low = end
			return
		}
		areas[at].end = low
		at++
	}
	last := at
	for last < used && areas[last].end <= end {
		last++
	}
	if last < used && areas[last].low < end {
		areas[last].low = end
	}
	shift(last, at-last)
}

// insert adds addresses that are in no area. There must be room for one more area.
func insert(low, end, rights uintptr) {
	at := first(low)
	below := at > 0 && areas[at-1].end == low && areas[at-1].rights == rights
	above := at < used && areas[at].low == end && areas[at].rights == rights
	switch {
	case below && above:
		areas[at-1].end = areas[at].end
		shift(at+1, -1)
	case below:
		areas[at-1].end = end
	case above:
		areas[at].low = low
	default:
		shift(at, 1)
		areas[at] = area{low, end, rights}
	}
}

// shift moves the areas from index at on by places; there must be room.
func shift(at, places int) {
	copy(areas[at+places:], areas[at:used])
	used += places
}

// roomy tells whether an area may be split in three.
func roomy() bool {
	return used+2 < room || widen()
}

// widen gives the table of areas another page; it tells whether that could be done.
func widen() bool {
	if room == mostAreas {
		return false
	}
	place := areasLow + (uintptr(room)*unsafe.Sizeof(area{})+PageSize-1)&^(PageSize-1)
	entry := leaf(place, true)
	if entry == 0 {
		return false
	}
	page := Frame()
	if page == 0 {
		return false
	}
	memory.Store64(entry, uint64(page)|attributes(Read|Write))
	machine.Published()
	room = int((place + PageSize - areasLow) / unsafe.Sizeof(area{}))
	return true
}
