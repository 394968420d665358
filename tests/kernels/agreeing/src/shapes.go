package main

import "unsafe"

// Functions of all shapes, to be described.

type pair struct {
	number int
	name   string
}

type shape interface{ area(scale float32) float64 }

type named uint16

type list[T any] struct{ items []T }

//go:noinline
func many(a int, b uintptr, c float64, d string, e []byte, f shape, g any, h map[string]int) (int, *pair, error) {
	return a, nil, nil
}

//go:noinline
func more(i chan int, j func(int) error, k [3]int, l *pair, m pair, n unsafe.Pointer, o ...string) (x complex128) {
	return 0
}

//go:noinline
func small(a bool, b int8, c named, d [1]uint32, e struct{}) (f float32) { return 0 }

//go:noinline
func unnamed(a int, _ string, b int32) int32 { return b }

//go:noinline
func nothing() {}

//go:noinline
func (p pair) value(by int) string { return p.name }

//go:noinline
func (p *pair) pointer(by int) (sum int) { return p.number + by }

//go:noinline
func (l *list[T]) push(x T) int { return len(l.items) }

//go:noinline
func generic[K comparable, V any](k K, v V) V { return v }

//go:noinline
func large(a, b, c [100]int) [100]int { return a }

// spread takes more than there are registers for.
//
//go:noinline
func spread(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q int, r, s float64, t string) (u, v [2]int) {
	return
}

func closure(outside int) func(int) int {
	return func(inside int) int { return inside + outside }
}

// In Go's assembly.
func inAssembly(a int, b *pair) uintptr

var made func(int) int

func keepShapes() {
	many(1, 2, 3, "4", nil, nil, nil, nil)
	more(nil, nil, [3]int{}, nil, pair{}, nil)
	small(true, 1, 2, [1]uint32{}, struct{}{})
	unnamed(1, "", 2)
	nothing()
	p := &pair{}
	p.value(1)
	p.pointer(1)
	numbers, texts := list[int]{}, list[string]{}
	numbers.push(1)
	texts.push("")
	generic(1, "")
	large([100]int{}, [100]int{}, [100]int{})
	spread(1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, "")
	made = closure(word)
	inAssembly(1, p)
}
