package main

import "unsafe"

// which is the way to end; the tests write it into the image.
var which = -1

// What follows are variables so that the compiler does not know what is in them.
var (
	zero, one, two, five, six = 0, 1, 2, 5, 6

	numbers  = []int{1, 2, 3}
	table    [4]int
	text         = "hello"
	anything any = 5
	empty    any
	nothing  *twins
	stringer interface{ String() string }
	function func()
)

type twins struct{ a, b int }

func (p twins) String() string { return "a pair" }

type code int

func (c code) Error() string { return "code " + string(rune('0'+int(c))) }

type celsius float64

type label string

type (
	faulty   struct{ p *int }
	endless  int
	greedy   int
	panicker int
)

func (f faulty) Error() string   { return string(rune(*f.p)) }
func (e endless) Error() string  { return "e" + (e + 1).Error() }
func (g greedy) Error() string   { return string(make([]byte, 1<<20*five)) }
func (p panicker) Error() string { panic("in Error") }

//go:noinline
func deep(n int) int { return deep(n+1) + 1 }

//go:noinline
func provoke(way int) int {
	switch way {
	case 0:
		return numbers[five]
	case 1:
		return numbers[zero-five]
	case 2:
		return table[five]
	case 3:
		return int(text[six])
	case 4:
		return len(numbers[five:])
	case 5:
		return len(numbers[:five])
	case 6:
		return len(numbers[two:one])
	case 7:
		return len(numbers[zero:two:one])
	case 8:
		return len(numbers[two:one:two])
	case 9:
		return len(text[six:])
	case 10:
		return (*[5]int)(numbers)[0]
	case 11:
		return five / zero
	case 12:
		return one << (zero - five)
	case 13:
		return nothing.b
	case 14:
		function()
	case 15:
		return len(anything.(string))
	case 16:
		return len(empty.(string))
	case 17:
		stringer = nothing
		return len(stringer.String())
	case 18:
		panic("a string")
	case 19:
		panic("two\nlines")
	case 20:
		panic("made of " + string(rune('0'+five)))
	case 21:
		panic(code(7))
	case 22:
		panic(twins{1, 2})
	case 23:
		panic(&twins{1, 2})
	case 24:
		panic(celsius(36.6))
	case 25:
		panic(label("a label"))
	case 26:
		panic(five)
	case 27:
		panic(uint8(200))
	case 28:
		panic(1.5)
	case 29:
		panic(true)
	case 30:
		panic(complex(1, 2))
	case 31:
		panic([]int{1})
	case 32:
		panic(empty)
	case 33:
		panic(error(code(9)))
	case 34:
		panic(numbers[zero:][one : one+five])
	case 35:
		return uint8Of(five)
	// From here on, an operating system has other words.
	case 40:
		return deep(1)
	case 41:
		panic(faulty{})
	case 42:
		panic(endless(1))
	case 43:
		panic(greedy(1))
	case 44:
		panic(panicker(1))
	case 45:
		return *(*int)(unsafe.Add(unsafe.Pointer(&one), one<<40))
	case 46:
		return overwritten()
	}
	return 0
}

// uint8Of has its index in a small type, and its caller in its own name.
func uint8Of(n int) int { return table[uint8(n)] }

// overwritten panics on a stack in which no return address is left.
//
//go:noinline
func overwritten() int {
	var local [4]uint64
	for at := 0; at < 64; at++ {
		*(*uint64)(unsafe.Add(unsafe.Pointer(&local), 8*at)) = 0x4141414141414141
	}
	return numbers[int(local[two])]
}
