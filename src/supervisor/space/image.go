package space

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

// image is what the program may write of the image: bytes it begins with, and zeros. The first process has them
// where they are. Each other one has pages of its own at the same addresses, from when it touches them.
var image struct {
	data, zeros machine.Span
	pristine    uintptr // the bytes as they were before anything ran
}

// initImage sees to it that the bytes are kept: where flash has them, there; elsewhere in RAM.
func initImage(told *machine.Table) bool {
	image.data, image.zeros, image.pristine = told.Data, told.Zeros, told.Pristine
	if image.pristine != 0 {
		return true
	}
	image.pristine = frames.next // pages nobody had come one behind another
	for at := uintptr(0); at < image.data.Size(); at += PageSize {
		page := Frame()
		if page == 0 {
			return false
		}
		copyPage(page, image.data.Low()+at)
	}
	return true
}

func copyPage(to, from uintptr) {
	for at := uintptr(0); at < PageSize; at += 8 {
		memory.Store64(to+at, memory.Load64(from+at))
	}
}

// isOwn tells whether each process but the first has its own page there.
func isOwn(place uintptr) bool {
	return image.data.Has(place) || image.zeros.Has(place)
}

// touchImage does as Touch for the program's data in the image.
func touchImage(place, rights uintptr) int {
	if !isOwn(place) || current == &spaces[0] {
		return Unmapped
	}
	if rights&Execute != 0 {
		return Forbidden
	}
	entry := leaf(place, false)
	if memory.Load64(entry) != 0 {
		return Ready
	}
	page := Frame()
	if page == 0 {
		return Exhausted
	}
	if image.data.Has(place) {
		copyPage(page, image.pristine+place&^(PageSize-1)-image.data.Low())
	}
	memory.Store64(entry, uint64(page)|attributes(Read|Write))
	machine.Published()
	return Ready
}

// parted gives a space tables of its own for the program's data, which is nowhere yet; it tells whether there was RAM
// for them.
func parted(level1 uintptr) bool {
	return partedFor(level1, image.data) && partedFor(level1, image.zeros)
}

func partedFor(level1 uintptr, own machine.Span) bool {
	for low := own.Low(); own.Has(low); low += PageSize {
		at := low >> level1Shift % entries
		level2 := apart(level1, memory.Load64(base+at*8), at, level2Shift)
		if level2 == 0 {
			return false
		}
		inner := low >> level2Shift % entries
		level3 := apart(level2, finer(memory.Load64(base+at*8), inner, level2Shift), inner, level3Shift)
		if level3 == 0 {
			return false
		}
		memory.Store64(level3+low>>level3Shift%entries*8, 0)
	}
	return true
}

// apart is the table that an entry leads to, a copy of what old, which boot code has in its place, leads to; 0 if there
// is no RAM for it.
func apart(table uintptr, old uint64, at uintptr, shift uint64) uintptr {
	if entry := memory.Load64(table + at*8); entry != old {
		return uintptr(entry & address)
	}
	page := Frame()
	if page == 0 {
		return 0
	}
	for each := uintptr(0); each < entries; each++ {
		memory.Store64(page+each*8, finer(old, each, shift))
	}
	memory.Store64(table+at*8, uint64(page)|leads)
	return page
}

const leads = table // an entry that leads to a table
