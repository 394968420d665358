//go:build pointers

package main

import _ "unsafe" // for go:linkname

var more = []func(){pointers}

func kept() {
	workFormed(one)
	workHeld(one)
}

//go:linkname through through
func through(x uint64) uint64

//go:linkname held held
func held(x uint64) uint64

//go:noinline
func workFormed(x uint64) uint64 { return x + 1 }

//go:noinline
func workHeld(x uint64) uint64 { return x + 1 }

//go:noinline
func workValue(x uint64) uint64 { return x + 1 }

var values = [...]func(uint64) uint64{other, workValue}

//go:noinline
func (t thing) workExpression(x uint64) uint64 { return x + t.n + 1 }

type worker interface{ workBehind(x uint64) uint64 }

//go:noinline
func (t *thing) workBehind(x uint64) uint64 { return x + t.n + 1 }

var behind worker = &someThing

//go:noinline
func express(f func(thing, uint64) uint64, x uint64) uint64 { return f(someThing, x) }

//go:noinline
func literal() uint64 { return apply(func(x uint64) uint64 { return x + 1 }, one) }

//go:noinline
func capturing(y uint64) uint64 { return apply(func(x uint64) uint64 { return x + y }, one) }

// pointers come to the old function by its address.
//
//go:noinline
func pointers() {
	report("function value", values[one](one))
	report("method expression", express(thing.workExpression, one))
	report("interface", behind.workBehind(one))
	report("closure", literal())
	report("closure that captures", capturing(one))
	report("formed in assembly", through(one))
	report("held by assembly", held(one))
}
