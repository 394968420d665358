// Package main is a program to look into with gdb: goroutines in every state there is, values of every kind.
package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type node struct {
	name string
	next *node
}

var (
	words    = []string{"stop", "look"}
	ages     = map[string]int{"kernel": 3}
	squares  = map[int]int{}
	channel  = make(chan int, 4)
	anything any
	failure  error
	newest   *node
	nothing  = make(chan int)
	lock     sync.Mutex
	turns    atomic.Int64
)

//go:noinline
func receives() int { return <-nothing }

//go:noinline
func locks() {
	lock.Lock()
	defer lock.Unlock()
}

//go:noinline
func sleeps() { time.Sleep(time.Hour) }

//go:noinline
func spins() {
	for {
		turns.Add(1)
	}
}

// look is where gdb stops.
//
//go:noinline
func look(at *node) string {
	name := at.name
	newest = &node{name, at} // a barrier
	return name
}

func main() {
	for n := 0; n < 100; n++ {
		squares[n] = n * n
	}
	channel <- 7
	channel <- 8
	anything, failure = 42, fmt.Errorf("of %d", 42)
	newest = &node{name: "first"}
	lock.Lock()
	for n := 0; n < 3; n++ {
		go receives()
	}
	go locks()
	go sleeps()
	go spins()
	for turns.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(look(newest), words, ages, squares[3], anything, failure, len(channel))
	if len(os.Args) > 1 { // it stays, and is ended by the time limit
		lock.Lock()
	}
}
