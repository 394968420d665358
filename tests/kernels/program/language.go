package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

func arguments() {
	fmt.Printf("%q\n", os.Args[2:])
	fmt.Println(os.Getenv("GREETING"), len(os.Environ()))
	fmt.Fprintln(os.Stderr, "to standard error")
}

type node struct {
	left, right *node
	number      int
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.number + n.left.sum() + n.right.sum()
}

func grown(depth int) *node {
	if depth == 0 {
		return nil
	}
	return &node{grown(depth - 1), grown(depth - 1), 1}
}

// collector has garbage collected while trees are built and read. How many trees that takes is the runtime's
// business: four of them are three collections on Linux too.
func collector() {
	debug.SetGCPercent(1)
	defer debug.SetGCPercent(100)
	var seen runtime.MemStats
	for trees := 0; seen.NumGC < 5; trees++ {
		must(trees < 100, "nothing is collected", seen.NumGC)
		sum := grown(15).sum()
		must(sum == 1<<15-1, "the tree has lost nodes", sum)
		runtime.ReadMemStats(&seen)
	}
	finalised := make(chan bool, 1)
	func() {
		runtime.SetFinalizer(&node{number: 7}, func(*node) { finalised <- true })
	}()
	runtime.GC()
	<-finalised
}

func maps() {
	numbers := map[int]string{}
	for number := 0; number < 100_000; number++ {
		numbers[number] = fmt.Sprint(number)
	}
	must(len(numbers) == 100_000, "keys are missing", len(numbers))
	for number, text := range numbers {
		must(fmt.Sprint(number) == text, "a key has another's value", number, text)
	}
}

func deep() {
	var down func(left int) int
	down = func(left int) int {
		var room [64]int
		room[left%64] = left
		if left == 0 {
			return 0
		}
		return down(left-1) + room[left%64] - left + 1
	}
	depth := down(20_000)
	must(depth == 20_000, "the stack has lost frames", depth)
}

// recovered has each fault the hardware and the compiler find become a panic.
func recovered() {
	var missing *node
	var table map[string]int
	zero := len(os.Args) - len(os.Args)
	for what, provoke := range map[string]func(){
		"nil pointer":    func() { missing.number++ },
		"divide by zero": func() { _ = fmt.Sprint(1 / zero) },
		"out of range":   func() { _ = fmt.Sprint(os.Args[zero+99]) },
		"nil map":        func() { table["x"]++ },
	} {
		func() {
			defer func() {
				said := fmt.Sprint(recover())
				must(strings.Contains(said, what), "another panic", what, said)
			}()
			provoke()
		}()
	}
}

func nilMap() {
	var table map[string]int
	table["x"]++
}

func deadlock() {
	<-make(chan int)
}

// huge is refused by the supervisor, as by Linux.
func huge() {
	size := 1 << 38 * (len(os.Args) / len(os.Args))
	fmt.Println(len(make([]byte, size)))
}

// exhausted touches more memory than there is.
func exhausted() {
	var kept [][]byte
	for {
		kept = append(kept, make([]byte, 1<<20))
		for at := 0; at < 1<<20; at += 4096 {
			kept[len(kept)-1][at] = 1
		}
	}
}

func goroutines() {
	const many = 10_000
	numbers, sum := make(chan int, 10), make(chan int)
	go func() {
		total := 0
		for number := range numbers {
			total += number
		}
		sum <- total
	}()
	var working sync.WaitGroup
	for number := 0; number < many; number++ {
		working.Add(1)
		go func(number int) {
			defer working.Done()
			numbers <- number
		}(number)
	}
	working.Wait()
	close(numbers)
	total := <-sum
	must(total == many*(many-1)/2, "a goroutine was lost", total)
}
