// Package main is a kernel with functions to be replaced, and some to replace them.
package main

import "unsafe"

var word int

func main() {
	KernelMain()
	keepShapes()
	keepReplacing()
}

// KernelMain runs what is to be replaced. It ends with 0 if nothing is.
//
//go:noinline
func KernelMain() int32 {
	store(&word)
	return int32(increment(41) - 42 + inlined(word) + alsoInlined(word) + outer(0))
}

var stored *int

//go:noinline
func store(place *int) { stored = place }

//go:noinline
func increment(x int) int { return x + 1 }

func inlined(x int) int { return x * x / (word + 1) }

func alsoInlined(x int) int { return x*x*x - word }

// only is called where it can be inlined, and nowhere else.
func only(x int) int { return x ^ word }

//go:noinline
func outer(x int) int { return increment(x) - 1 + only(x) - inlined(x) }

//go:noinline
func unreached(x int) int { return unreachedInlined(x) + 2 }

// unreachedInlined has copies only where the kernel does not come.
func unreachedInlined(x int) int { return x*7 - word }

// What follows is to take their places.

//go:noinline
func same(x int) int { return x + 1 + word }

//go:noinline
func unsigned(x uint) uint { return x + 1 }

//go:noinline
func narrow(x int32) int { return int(x) }

//go:noinline
func float(x float64) int { return int(x) }

//go:noinline
func pointer(x unsafe.Pointer) int { return int(uintptr(x)) }

//go:noinline
func boolean(x bool) int { return word }

//go:noinline
func two(x, y int) int { return x + y }

//go:noinline
func extra(x int, _ int) int { return x + 1 + word }

//go:noinline
func silent(x int) { word = x }

//go:noinline
func back(x int) int { return outer(x) }

//go:noinline
func direct(x int) int { return increment(x) + word }

//go:noinline
func failing(x int) int {
	if word == 77 {
		panic(increment(x))
	}
	return x + 1
}

//go:noinline
func move(to, from unsafe.Pointer, n uintptr) { word++ }

//go:noinline
func moveNot(to, from unsafe.Pointer) { word++ }

//go:noinline
func alloc(size uintptr, typ unsafe.Pointer, zero bool) unsafe.Pointer { return unsafe.Pointer(&word) }

func keepReplacing() {
	unreached(unreachedInlined(word))
	function := inlined
	switch word {
	case 1:
		function = alsoInlined
	case 2:
		function = unreachedInlined
	}
	function(word)
	same(1)
	unsigned(1)
	narrow(1)
	float(1)
	pointer(nil)
	boolean(true)
	two(1, 2)
	extra(1, 2)
	silent(1)
	back(1)
	direct(1)
	failing(1)
	move(nil, nil, 1)
	moveNot(nil, nil)
	alloc(1, nil, true)
}
