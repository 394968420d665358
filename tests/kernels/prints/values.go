package main

type (
	small  int8
	wide   uint64
	word   string
	choice bool
)

// These are variables so that the compiler prints nothing of them itself.
var (
	none       any
	noError    error
	nowhere    *int
	noText     string
	noNumbers  []int
	numbers    = [...]int64{0, 1, -1, 9, 10, -1 << 63, 1<<63 - 1}
	unsigned   = [...]uint64{0, 7, 1<<64 - 1}
	floating   = [...]float64{0, 1, -1.5, 1e300, 5e-324, 1.7976931348623157e308, 0.1, 123456789}
	halves     = [...]float32{0.5, -3.4028235e38, 1e-45}
	truth      = [...]bool{true, false}
	texts      = [...]string{"", "a", "two\nlines", "\r\n", "\x00\xff\t", "ünïcödé"}
	limit      = 40
	complexity = [...]complex128{1 + 2i, -0.5 - 1e99i}
)

//go:noinline
func values() {
	println()
	print("no end of line")
	println("", "one", noText, "two")
	for _, n := range numbers {
		println(n, int32(n), int8(n), small(n), -n)
	}
	for _, u := range unsigned {
		println(u, uint32(u), uint8(u), wide(u), uintptr(u))
	}
	for _, f := range floating {
		println(f, -f, f*f, f-f)
	}
	for _, f := range halves {
		println(f, complex(f, -f))
	}
	for _, c := range complexity {
		println(c, complex64(c))
	}
	for _, t := range truth {
		println(t, !t, choice(t))
	}
	for _, t := range texts {
		print(t, word(t), "|")
	}
	println(none, noError, nowhere, len(noNumbers), noNumbers)
	for at := 0; at < limit; at++ {
		print(at, " ")
	}
	println('x', "that is all")
}
