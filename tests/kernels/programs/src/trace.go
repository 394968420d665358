// Package main is what generated programs have in common: a trace, by which it shows in which order functions
// ran and with what, and the little of a runtime that `go`, `defer` and allocations need.
package main

import "unsafe"

// table begins as the board table of buildsys does.
type table struct {
	_    [9]uintptr
	uart *uint32
}

var (
	uart  *uint32 // stored through a write barrier
	hash  uint64  // of everything that ran so far
	fuel  uint64  // how many functions may still go on
	marks uint64  // which ways a call that is redirected came by
	zero  uint64  // which the compiler does not know
)

func main() {
	KernelMain(nil)
	kept()
	keep[0] = needed()
	neededOnStack()
	waits(nil, 0)
	waitsOnStack(nil, 0)
	ends(0)
	started(nil)
	allocated(0, nil, true)
}

// KernelMain tells the trace after each of the program's roots.
//
//go:noinline
func KernelMain(given *table) int32 {
	uart = given.uart
	hash = 1
	for i := uint64(0); i < roots; i++ {
		fuel = 60
		root(i)
		tell(hash)
	}
	tell(marks)
	return 0
}

// needed has what some programs lack, so that each needs the same of the runtime: it is not run.
//
//go:noinline
func needed() *uint64 {
	for i := uint64(0); i < zero; i++ {
		defer tell(i)
	}
	go tell(zero)
	return new(uint64)
}

//go:noinline
func neededOnStack() {
	defer tell(1)
	defer tell(2)
	defer tell(3)
	defer tell(4)
	defer tell(5)
	defer tell(6)
	defer tell(7)
	defer tell(8)
	defer tell(9) // more than eight are not done by code at each return
}

//go:noinline
func tell(value uint64) {
	for shift := 60; shift >= 0; shift -= 4 {
		*uart = uint32("0123456789abcdef"[value>>uint(shift)&15])
	}
	*uart = '\n'
}

func mix(x, y uint64) uint64 {
	x = (x ^ y) * 0x9e3779b97f4a7c15
	return x ^ x>>29
}

// enter notes that the function `id` runs, x being made of its arguments.
//
//go:noinline
func enter(id, x uint64) uint64 {
	hash = mix(hash, mix(id, x))
	return mix(x, id)
}

// note is the same, to be inlined.
func note(id, x uint64) uint64 {
	hash = mix(hash, mix(id, x))
	return mix(x, id)
}

func spent() bool {
	if fuel == 0 {
		return true
	}
	fuel--
	return false
}

// ---- what the runtime does elsewhere ----

type waiting struct {
	call  func()
	frame uintptr
}

var (
	list [256]waiting
	top  int
	heap [1 << 20]uint64
	used uint64
)

//go:noinline
func waits(call func(), frame uintptr) uint64 {
	list[top] = waiting{call, frame}
	top++
	return 0
}

// record begins as runtime._defer does, in every release from 1.19 on (src/runtime/runtime2.go).
type record struct {
	_      [3]bool
	sp, pc uintptr
	call   func()
}

//go:noinline
func waitsOnStack(given *record, frame uintptr) uint64 { return waits(given.call, frame) }

//go:noinline
func ends(frame uintptr) {
	for top > 0 && list[top-1].frame == frame {
		top--
		list[top].call()
	}
}

// started is `go`: the new goroutine runs at once, up to its end.
//
//go:noinline
func started(call func()) { call() }

// allocated is what the compiler calls for memory, and what that comes to.
//
//go:noinline
func allocated(size uintptr, kind unsafe.Pointer, zeroed bool) unsafe.Pointer {
	at := &heap[used]
	used += (uint64(size) + 7) / 8
	return unsafe.Pointer(at)
}

// ---- values of each type, made of a number and made to one again ----

type pair struct {
	a uint64
	b uint8
}

type mixed struct {
	f float64
	s string
	n int16
}

type large struct{ w [6]uint64 }

type nested struct {
	p pair
	v [1]float32
	_ struct{}
}

type valuer interface{ value() uint64 }

type cell struct{ n uint64 }

//go:noinline
func (c *cell) value() uint64 { return c.n }

type tag uint32

//go:noinline
func (t tag) value() uint64 { return uint64(t) }

const text = "the quick brown fox jumps over the lazy dog"

var (
	words   = [...]uint64{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3}
	keep    [8]*uint64
	cells   = [...]cell{{7}, {11}}
	valuers = [...]valuer{&cells[0], tag(5), &cells[1], tag(9)}
	callees = [...]func(uint64) uint64{double, square}
)

//go:noinline
func double(x uint64) uint64 { return 2 * x }

//go:noinline
func square(x uint64) uint64 { return x * x }

func makeBool(x uint64) bool          { return x&4 != 0 }
func makeByte(x uint64) uint8         { return uint8(x >> 3) }
func makeInt16(x uint64) int16        { return int16(x >> 5) }
func makeInt32(x uint64) int32        { return int32(x >> 7) }
func makeUint64(x uint64) uint64      { return x + 1 }
func makeInt(x uint64) int            { return int(x >> 2) }
func makeFloat32(x uint64) float32    { return float32(x & 0xffff) }
func makeFloat64(x uint64) float64    { return float64(x&0xffffff) / 8 }
func makeComplex(x uint64) complex128 { return complex(float64(x&0xff), float64(x>>8&0xff)) }
func makeString(x uint64) string      { return text[x&15 : 16+x>>4&15] }
func makeSlice(x uint64) []uint64     { return words[x&7 : 8+x>>4&7] }
func makeArray(x uint64) [3]uint16    { return [3]uint16{uint16(x), uint16(x >> 16), 3} }
func makePointer(x uint64) *uint64    { return &words[x&15] }
func makePair(x uint64) pair          { return pair{x, uint8(x >> 9)} }
func makeMixed(x uint64) mixed        { return mixed{float64(x & 0xfff), makeString(x), int16(x)} }
func makeLarge(x uint64) large        { return large{[6]uint64{x, 1, x + 2, 3, x + 4, 5}} }
func makeNested(x uint64) nested {
	return nested{p: pair{x, uint8(x)}, v: [1]float32{float32(x & 0xff)}}
}
func makeValuer(x uint64) valuer              { return valuers[x&3] }
func makeCallee(x uint64) func(uint64) uint64 { return callees[x&1] }
func makeNothing(x uint64) struct{}           { return struct{}{} }
func foldBool(v bool) uint64 {
	if v {
		return 17
	}
	return 18
}
func foldByte(v uint8) uint64         { return uint64(v) }
func foldInt16(v int16) uint64        { return uint64(v) }
func foldInt32(v int32) uint64        { return uint64(v) }
func foldUint64(v uint64) uint64      { return v }
func foldInt(v int) uint64            { return uint64(v) }
func foldFloat32(v float32) uint64    { return uint64(int64(v)) }
func foldFloat64(v float64) uint64    { return uint64(int64(v * 8)) }
func foldComplex(v complex128) uint64 { return uint64(real(v)) + 3*uint64(imag(v)) }
func foldString(v string) uint64 {
	x := uint64(len(v))
	for i := 0; i < len(v); i++ {
		x = x*31 + uint64(v[i])
	}
	return x
}
func foldSlice(v []uint64) uint64 {
	x := uint64(len(v))
	for _, each := range v {
		x = x*31 + each
	}
	return x
}
func foldArray(v [3]uint16) uint64  { return uint64(v[0]) + 3*uint64(v[1]) + 5*uint64(v[2]) }
func foldPointer(v *uint64) uint64  { return *v }
func foldPair(v pair) uint64        { return v.a + 3*uint64(v.b) }
func foldMixed(v mixed) uint64      { return uint64(v.f) + foldString(v.s) + uint64(v.n) }
func foldLarge(v large) uint64      { return v.w[0] + v.w[1] + 3*v.w[2] + 5*v.w[3] + 7*v.w[4] + 9*v.w[5] }
func foldNested(v nested) uint64    { return foldPair(v.p) + uint64(v.v[0]) }
func foldValuer(v valuer) uint64    { return v.value() }
func foldNothing(v struct{}) uint64 { return 0 }
func foldCallee(v func(uint64) uint64) uint64 {
	return v(3)
}
