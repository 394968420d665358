//go:build passing

package main

import _ "unsafe" // for go:linkname

var count uint64

// main keeps these.
func passes() {
	passDirect(one)
	passMethod(nil, one)
}

//go:linkname originalDirect original.main.workDirect
func originalDirect(x uint64) uint64

//go:noinline
func passDirect(x uint64) uint64 {
	count++
	return originalDirect(x) + 2000
}

//go:linkname originalMethod original.main.(*thing).workDirectly
func originalMethod(t *thing, x uint64) uint64

//go:noinline
func passMethod(t *thing, x uint64) uint64 {
	count++
	return originalMethod(t, x) + 2000
}
