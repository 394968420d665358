package main

import (
	"kernel/board"
	"kernel/memory"
	"kernel/supervisor/files"
	"kernel/supervisor/machine"
)

// given is what the program gets: of the image's own, or of this boot's.
var given struct {
	arguments, environment machine.Strings
	stringsEnd             uintptr
	identity               string // of this run; none if it is empty
	base                   uintptr
	files                  machine.Strings // entries, and how many
	folder                 uintptr         // the entry of the working folder, from 1; 0 for the root
}

// A bundle is what one boot is given beside the image; buildsys/gotest/bundle.py makes it. All that is named in it
// is named by its distance from the bundle's first byte.
type bundle struct {
	Magic       uint64
	Size        uintptr // bytes in the bundle
	Arguments   machine.Strings
	Environment machine.Strings
	StringsEnd  uintptr
	Identity    machine.Strings // its length in bytes, and where they are
	Files       machine.Strings // how many of files.Entry, and where they are
	Folder      uintptr         // the working folder's, counted from 1
}

const bundleMagic = 0x656c646e75627367 // "gsbundle"

// take reads what the image or its bundle has for the program; it returns where the RAM ends that is left, and
// whether all that was given lies in RAM nothing else uses.
func take(told *machine.Table, heap board.Range) (uintptr, bool) {
	given.arguments, given.environment = told.Arguments, told.Environment
	given.stringsEnd = told.StringsEnd
	base := told.Given
	if base == 0 {
		return heap.End, true
	}
	found := memory.At[bundle](base)
	if !heap.Contains(base) || found.Magic != bundleMagic || found.Size > heap.End-base {
		return heap.End, false
	}
	given.arguments = machine.Strings{Count: found.Arguments.Count, First: base + found.Arguments.First}
	given.environment = machine.Strings{Count: found.Environment.Count, First: base + found.Environment.First}
	given.stringsEnd = base + found.StringsEnd
	given.identity = stringAt(base+found.Identity.First, found.Identity.Count)
	given.base, given.files, given.folder = base, found.Files, found.Folder
	return base, true
}

// plant makes the files this boot was given; it tells whether that could be done.
func plant() bool {
	return files.Plant(given.base, given.files.First, given.files.Count, given.folder)
}

// zeroEnded is the zero-terminated string at an address of the supervisor's.
func zeroEnded(place uintptr) string {
	length := uintptr(0)
	for memory.Load8(place+length) != 0 {
		length++
	}
	return stringAt(place, length)
}

// sign ends what a run sends, if it has an identity: with that, its status, and how many bytes the program wrote to
// the serial port, and which. Who reads it can tell whether anything was lost.
func sign(status uint64) {
	if given.identity == "" {
		return
	}
	console.Puts("\r\nsupervisor: run ")
	console.Puts(given.identity)
	console.Puts(" ended with status ")
	console.PutDecimal(status)
	console.Puts(" after ")
	console.PutDecimal(files.Sent)
	console.Puts(" bytes, FNV-1a ")
	console.PutHex(files.Sum)
	console.Puts("\r\n")
}
