package main

import _ "unsafe" // for go:linkname

type thing struct{ n uint64 }

//go:noinline
func workDirect(x uint64) uint64 { return x + 1 }

//go:noinline
func workTail(x uint64) uint64 { return x + 1 }

//go:linkname tail tail
func tail(x uint64) uint64

//go:noinline
func workAlias(x uint64) uint64 { return x + 1 }

//go:linkname alias main.workAlias
func alias(x uint64) uint64

var left uint64

//go:noinline
func workDefer(x uint64) uint64 {
	left = x + 1
	return left
}

//go:noinline
func deferred(x uint64) { defer workDefer(x) }

//go:noinline
func workInDefer(x uint64) uint64 { return x + 1 }

//go:noinline
func inDefer(x uint64) (y uint64) {
	defer func() { y = workInDefer(x) }()
	return 0
}

//go:noinline
func workInClosure(x uint64) uint64 { return x + 1 }

//go:noinline
func apply(f func(uint64) uint64, x uint64) uint64 { return f(x) }

//go:noinline
func (t thing) workBound(x uint64) uint64 { return x + t.n + 1 }

//go:noinline
func (t *thing) workDirectly(x uint64) uint64 { return x + t.n + 1 }

var someThing = thing{10}

// calls come to the old function by BL or B, sooner or later.
//
//go:noinline
func calls() {
	report("direct", workDirect(one))
	report("tail", tail(one))
	report("linkname", alias(one))
	left = 0
	deferred(one)
	report("deferred", left)
	report("in a deferred closure", inDefer(one))
	two := one + one
	report("in a closure", apply(func(x uint64) uint64 { return workInClosure(x) + two }, one))
	report("method value", apply(someThing.workBound, one))
	report("method", someThing.workDirectly(one))
}
