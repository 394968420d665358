package space

import (
	"kernel/memory"
	"kernel/supervisor/machine"
)

// Page tables: Arm ARM, VMSAv8-64 translation table descriptors; 4 KiB granule, 39-bit addresses.
const (
	level1Shift, level2Shift, level3Shift = 30, 21, 12
	entries                               = 512

	valid    = 1 << 0
	table    = 3 << 0
	normal   = 0<<2 | 3<<8 | 1<<10 // MAIR_EL1 index 0, inner shareable, accessed
	readOnly = 1 << 7
	never    = 1<<53 | 1<<54 // PXN, UXN: not to be executed
	address  = 1<<48 - 1<<12
)

// Errors, as Linux numbers them: include/uapi/asm-generic/errno-base.h.
const (
	EEXIST = 17
	EINVAL = 22
	ENOMEM = 12
)

// kept are pages of RAM a program cannot have by mapping, only by touching: for stacks, page tables and the
// supervisor's own threads, so that a program that runs out of memory can still say so.
const kept = 64

var root uintptr // the level 1 table

// Init takes the page tables boot code made, adds room for a program, and gives it the RAM from low
// up to end. The tables are copied: boot code's cannot be written.
func Init(told *machine.Table, low, end uintptr) bool {
	initFrames(low, end)
	areas = memory.At[[mostAreas]area](areasLow)
	base = told.Translation
	return initImage(told) && begin()
}

// sparse is how many bytes a program can have at once whether there is RAM for them or not. Go's runtime has a table of
// 32 MiB of which it touches a few pages (src/runtime/malloc.go, arenas).
const sparse = 64 << 20

// Fits tells whether there is RAM for that many bytes, or will be as few of them are touched.
func Fits(length uintptr) bool {
	return length <= sparse || length/PageSize+kept <= frames.count
}

// IsThere tells whether there is RAM for that many bytes.
func IsThere(length uintptr) bool {
	return length/PageSize+kept <= frames.count
}

// Map gives the program the pages low up to end, with those rights; what was there is gone.
// It returns 0, or an error's number.
func Map(low, end, rights uintptr) int64 {
	if low < Low || end > End || low >= end || !roomy() {
		return ENOMEM
	}
	discard(low, end)
	remove(low, end)
	insert(low, end, rights)
	return 0
}

// Place is where length bytes are free: at hint, if that is possible. 0 if nowhere.
func Place(hint, length uintptr) uintptr {
	if hint >= Low && hint%PageSize == 0 && length <= End-Low && hint <= End-length && isFree(hint, hint+length) {
		return hint
	}
	return findFree(length)
}

// IsFree tells whether the program has none of these addresses.
func IsFree(low, end uintptr) bool {
	return low >= Low && end <= End && isFree(low, end)
}

// IsWhole tells whether the program has all of these addresses.
func IsWhole(low, end uintptr) bool {
	return isWhole(low, end)
}

// Unmap takes pages from the program.
func Unmap(low, end uintptr) int64 {
	if !roomy() {
		return ENOMEM
	}
	low, end = clip(low, end)
	discard(low, end)
	remove(low, end)
	return 0
}

// Protect changes the program's rights to pages it has.
func Protect(low, end, rights uintptr) int64 {
	if !roomy() || !isWhole(low, end) {
		return ENOMEM
	}
	remove(low, end)
	insert(low, end, rights)
	pages := uintptr(0)
	each(low, end, func(entry uintptr, held uint64) {
		if rights&Execute != 0 {
			machine.Fetchable(uintptr(held & address))
		}
		memory.Store64(entry, held&address|attributes(rights))
		pages++
	})
	forget(low, end, pages)
	return 0
}

// Discard gives back the RAM of pages, which are zeros when they are touched again.
func Discard(low, end uintptr) {
	discard(clip(low, end))
}

// IsPresent tells whether there is RAM behind an address.
func IsPresent(place uintptr) bool {
	entry := leaf(place, false)
	return entry != 0 && memory.Load64(entry) != 0
}

// What Touch finds.
const (
	Ready     = iota
	Unmapped  // the program has no such address
	Forbidden // it has, and may not do that
	Exhausted // there is no RAM left
)

// Touch sees to it that the program's page at place is there, to be used with those rights.
func Touch(place, rights uintptr) int {
	had, known := rightsAt(place)
	if !known {
		return touchImage(place, rights)
	}
	if rights&^had != 0 {
		return Forbidden
	}
	entry := leaf(place, true)
	if entry == 0 {
		return Exhausted
	}
	if memory.Load64(entry) == 0 {
		page := Frame()
		if page == 0 {
			return Exhausted
		}
		memory.Store64(entry, uint64(page)|attributes(had))
		machine.Published()
	}
	return Ready
}

// attributes of a page with those rights. One with none keeps its address, and is not valid.
func attributes(rights uintptr) uint64 {
	if rights == None {
		return 0
	}
	found := uint64(table | normal)
	if rights&Write == 0 {
		found |= readOnly
	}
	if rights&Execute == 0 {
		found |= never
	}
	return found
}

// clip limits addresses to the program's.
func clip(low, end uintptr) (uintptr, uintptr) {
	if low < Low {
		low = Low
	}
	if end > End {
		end = End
	}
	return low, end
}

// leaf is where the level 3 entry for place lies; 0 if there is no table for it, or with create, no RAM for one.
func leaf(place uintptr, create bool) uintptr {
	found := below(root+place>>level1Shift%entries*8, create)
	if found == 0 {
		return 0
	}
	if found = below(found+place>>level2Shift%entries*8, create); found == 0 {
		return 0
	}
	return found + place>>level3Shift%entries*8
}

// below is the table that the entry leads to.
func below(entry uintptr, create bool) uintptr {
	if found := memory.Load64(entry); found&valid != 0 {
		return uintptr(found & address)
	}
	if !create {
		return 0
	}
	page := Frame()
	if page != 0 {
		memory.Store64(entry, uint64(page)|table)
	}
	return page
}

// each calls do for every page with RAM among the addresses, with the place of its entry and what is there.
func each(low, end uintptr, do func(entry uintptr, held uint64)) {
	for low < end {
		size := uintptr(1) << level1Shift
		if second := below(root+low>>level1Shift%entries*8, false); second != 0 {
			size = 1 << level2Shift
			if third := below(second+low>>level2Shift%entries*8, false); third != 0 {
				size = PageSize
				entry := third + low>>level3Shift%entries*8
				if held := memory.Load64(entry); held != 0 {
					do(entry, held)
				}
			}
		}
		low = (low + size) &^ (size - 1)
	}
}

// few pages are forgotten one by one, more all at once.
const few = 32

func discard(low, end uintptr) {
	pages := uintptr(0)
	each(low, end, func(entry uintptr, held uint64) {
		memory.Store64(entry, 0)
		Release(uintptr(held & address))
		pages++
	})
	forget(low, end, pages)
}

func forget(low, end, pages uintptr) {
	if pages == 0 {
		return
	}
	if (end-low)/PageSize > few {
		machine.ForgetAll()
		return
	}
	for ; low < end; low += PageSize {
		machine.Forget(low)
	}
}

// TouchAll does as Touch for every page of length bytes from place on, which may as well be the image's; it tells
// whether they can be used so.
func TouchAll(place, length, rights uintptr) bool {
	if length == 0 {
		return true
	}
	if place+length < place {
		return false
	}
	for page := place &^ (PageSize - 1); page < place+length; page += PageSize {
		if page >= Low && page < End {
			if Touch(page, rights) != Ready {
				return false
			}
		} else if !machine.Reaches(page, rights&Write != 0) && touchImage(page, rights) != Ready {
			return false
		}
	}
	return true
}
