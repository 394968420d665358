package main

// Assembly's side of these is in lib.s.
var calls, last uint64

// Twice is called by assembly alone.
//
//go:noinline
func Twice(x uint64) uint64 { return 2 * x }

// Increment likewise, through its address.
//
//go:noinline
func Increment(x uint64) uint64 { return x + 1 }

// Exception is where the vectors lead.
//
//go:noinline
func Exception(syndrome, address uint64) {
	puts("exception ")
	putHex(syndrome)
	puts("\r\n")
	qemu_exit(3)
}

// keep is never run: Go would leave out what only assembly calls.
func keep() {
	Twice(0)
	Increment(0)
	Exception(0, 0)
}
