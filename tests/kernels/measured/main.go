// Package main measures what a program costs on the bare machine, or on Linux: its first argument says what. It prints
// one number: counts of the processor's counter for one of what was done, or milliseconds.
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"measured/metal"
)

func main() {
	reached := metal.Counter()
	switch os.Args[1] {
	case "start": // since the counter began
		fmt.Println(1000 * float64(reached) / float64(metal.Frequency()))
	case "call":
		fmt.Println(each(10_000, func() { syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0) }))
	case "fault":
		faults()
	case "switch":
		switches()
	case "cpu":
		fmt.Println(milliseconds(compute))
	case "gc":
		fmt.Println(milliseconds(collect))
	}
}

// each is how far the counter counts while something is done once of times.
func each(times int, do func()) float64 {
	do()
	began := metal.Counter()
	for range make([]struct{}, times) {
		do()
	}
	return float64(metal.Counter()-began) / float64(times)
}

func milliseconds(do func()) float64 {
	do()
	began := time.Now()
	do()
	return time.Since(began).Seconds() * 1000
}

func faults() {
	const pages, size = 4096, 4096
	memory, err := syscall.Mmap(-1, 0, pages*size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	at := 0
	fmt.Println(each(pages-1, func() { memory[at]++; at += size }))
}

// switches has two threads wake each other by pipes: a round is two switches, two reads and two writes.
func switches() {
	var there, back [2]int
	if syscall.Pipe2(there[:], 0) != nil || syscall.Pipe2(back[:], 0) != nil {
		panic("no pipes")
	}
	const rounds = 2000
	go func() {
		runtime.LockOSThread()
		var letter [1]byte
		for range [rounds + 1]int{} {
			syscall.Read(there[0], letter[:])
			syscall.Write(back[1], letter[:])
		}
	}()
	runtime.LockOSThread()
	var letter [1]byte
	fmt.Println(each(rounds, func() {
		syscall.Write(there[1], letter[:])
		syscall.Read(back[0], letter[:])
	}) / 2)
}

var kept uint64

// compute finds the longest Collatz sequence of the numbers below a bound, and allocates nothing.
func compute() {
	longest := uint64(0)
	for first := uint64(1); first < 200_000; first++ {
		length := uint64(0)
		for number := first; number != 1; length++ {
			if number%2 == 0 {
				number /= 2
			} else {
				number = 3*number + 1
			}
		}
		if length > longest {
			longest, kept = length, first
		}
	}
}

type tree struct{ left, right *tree }

func grown(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{grown(depth - 1), grown(depth - 1)}
}

var forest []*tree

// collect keeps a forest of which trees are felled and grown.
func collect() {
	forest = make([]*tree, 16)
	for count := 0; count < 200; count++ {
		forest[count%len(forest)] = grown(12)
	}
}
