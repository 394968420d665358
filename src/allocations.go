package main

import (
	"unsafe"

	"kernel/board"
)

// What Go code allocates: the ready set alloc gives it memory, and no one frees it.

// A shape is something with a method, for values of several types.
type shape interface {
	area() int
}

type (
	square struct{ side int }
	oblong struct{ width, height int }
)

func (s square) area() int { return s.side * s.side }

func (o *oblong) area() int { return o.width * o.height }

// made keeps what is allocated from being put on the stack.
var made struct {
	words  []string
	blocks [][]byte
	shapes []shape
	any    any
	next   func() int
}

// checkAllocations uses what the compiler makes an allocation of, and checks what came of it.
func checkAllocations(table *board.Table) string {
	for _, check := range [...]func() string{
		checkGrowth, checkClosure, checkConcatenation, checkBoxes, func() string { return checkBlocks(table) },
	} {
		if fault := check(); fault != "" {
			return fault
		}
	}
	return ""
}

// checkGrowth appends to a slice until it moved many times.
func checkGrowth() string {
	var list []*mark
	for i := 0; i < 300; i++ {
		list = append(list, &mark{number: uint64(i)})
	}
	for i, each := range list {
		if each.number != uint64(i) {
			return "an element appended is not what it was"
		}
	}
	return ""
}

// counting gives a function that counts in a variable of its own.
//
//go:noinline
func counting(from int) func() int {
	return func() int {
		from++
		return from
	}
}

// checkClosure calls closures that share nothing.
func checkClosure() string {
	made.next = counting(10)
	other := counting(100)
	if made.next()+made.next() != 23 || other() != 101 || made.next() != 13 {
		return "a closure's variable is not its own"
	}
	return ""
}

// checkConcatenation makes strings of strings, bytes and runes.
func checkConcatenation() string {
	text := ""
	for letter := 'a'; letter <= 'z'; letter++ {
		text += string(letter)
	}
	made.words = append(made.words, text+text, text[:3]+"–"+text[23:])
	bytes := []byte(made.words[0])
	bytes[26] = 'A'
	if len(made.words[0]) != 52 || made.words[0][26] != 'a' || string(bytes[25:28]) != "zAb" ||
		made.words[1] != "abc–xyz" || len([]rune(made.words[1])) != 7 {
		return "a string is not what it was made of"
	}
	return ""
}

// checkBoxes puts values of many types into interfaces.
func checkBoxes() string {
	total := 0
	for side := 1; side <= 40; side++ {
		made.shapes = append(made.shapes, square{side}, &oblong{side, 2})
	}
	for _, each := range made.shapes {
		total += each.area()
	}
	if total != 40*41*81/6+40*41 {
		return "an interface has another value than was put into it"
	}
	for _, value := range [...]any{uint16(60000), uint64(1 << 40), "text", square{7}, [3]int{1, 2, 3}} {
		made.any = value
		if made.any != value {
			return "an interface does not equal what it was stored from"
		}
	}
	if text, ok := made.any.(string); ok || text != "" {
		return "an array passes for a string"
	}
	return ""
}

// checkBlocks allocates blocks of many sizes. Each must be zeroed and lie in RAM that nothing else
// uses, and keep what was written to it: then no two share a byte.
func checkBlocks(table *board.Table) string {
	state := uint32(2463534242)
	for i := 0; i < 50; i++ {
		state ^= state << 13 // xorshift32
		state ^= state >> 17
		state ^= state << 5
		block := make([]byte, 1+state%500)
		low := uintptr(unsafe.Pointer(&block[0]))
		memory := board.Range{Low: low, End: low + uintptr(len(block))}
		if !table.RAM.Holds(memory) || table.Heap.Overlaps(memory) || table.Stack.Overlaps(memory) {
			return "a block is not in RAM of its own"
		}
		if low%16 != 0 {
			return "a block is not aligned"
		}
		for at, each := range block {
			if each != 0 {
				return "a block is not zeroed"
			}
			block[at] = byte(i)
		}
		made.blocks = append(made.blocks, block)
	}
	for i, block := range made.blocks {
		for _, each := range block {
			if each != byte(i) {
				return "a block was written to by another's owner"
			}
		}
	}
	return ""
}
