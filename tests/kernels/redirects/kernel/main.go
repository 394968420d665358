// Package main calls functions in every way there is, and reports what each returned.
package main

// table begins as the board table of buildsys does.
type table struct {
	_    [9]uintptr
	uart *uint32
}

var uart *uint32 // stored through a write barrier

// one is 1, which the compiler does not know.
var one uint64 = 1

func main() {
	KernelMain(nil)
	other(one)
	otherMethod(thing{}, one)
	otherPointer(nil, one)
	workTail(one)
	nothing()
	kept()
	passes()
}

// KernelMain reports a line for each way.
//
//go:noinline
func KernelMain(given *table) int32 {
	uart = given.uart
	calls()
	for _, each := range more {
		each()
	}
	return 0
}

//go:noinline
func report(way string, value uint64) {
	puts(way)
	puts(" ")
	digits(value)
	puts("\r\n")
}

//go:noinline
func puts(text string) {
	for i := 0; i < len(text); i++ {
		*uart = uint32(text[i])
	}
}

//go:noinline
func digits(value uint64) {
	if value >= 10 {
		digits(value / 10)
	}
	*uart = uint32('0' + value%10)
}

// What takes the place of others tells so by what it returns.

//go:noinline
func other(x uint64) uint64 { return x + 1000 }

//go:noinline
func otherMethod(t thing, x uint64) uint64 { return x + t.n + 1000 }

//go:noinline
func otherPointer(t *thing, x uint64) uint64 { return x + t.n + 1000 }

//go:noinline
func nothing() {}
