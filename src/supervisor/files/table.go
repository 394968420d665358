package files

import (
	"unsafe"

	"kernel/memory"
	"kernel/supervisor/space"
)

// A Table is one process's: its descriptors, on a page, and the folder its paths begin at.
type Table struct {
	open    *[mostFiles]file
	working *node
}

// mostTables is as many as there can be processes.
const mostTables = 64

var tables [mostTables]Table

// newTable is one without descriptors; nil if there is no RAM for it, or there are too many.
func newTable() *Table {
	for at := range tables {
		if made := &tables[at]; made.open == nil {
			if page := space.Frame(); page != 0 {
				made.open = memory.At[[mostFiles]file](page)
				return made
			}
			return nil
		}
	}
	return nil
}

// Current is the table of the process that runs.
func Current() *Table {
	return own
}

// Enter has every call be of this table's descriptors.
func (t *Table) Enter() {
	own, files = t, t.open
}

// Copy is another table with the same descriptors, as a child has it; nil if there can be no more.
func (t *Table) Copy() *Table {
	made := newTable()
	if made == nil {
		return nil
	}
	*made.open, made.working = *t.open, t.working
	for at := range made.open {
		made.open[at].share()
	}
	if made.working != nil {
		made.working.open++
	}
	return made
}

// CloseMarked closes what is to be closed at execve.
func (t *Table) CloseMarked() {
	t.close(false)
}

// Leave closes all and gives the table back.
func (t *Table) Leave() {
	t.close(true)
	if t.working != nil {
		t.working.leave()
	}
	space.Release(uintptr(unsafe.Pointer(t.open)))
	*t = Table{}
}

func (t *Table) close(all bool) {
	before := own
	t.Enter()
	for at := range t.open {
		if t.open[at].kind != closed && (all || t.open[at].closes) {
			Close(uint64(at))
		}
	}
	before.Enter()
}
