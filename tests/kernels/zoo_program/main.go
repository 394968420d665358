// Package main fails as its argument says, in ways that only a program with all of the runtime can.
package main

import (
	"os"
	"runtime"
	"runtime/pprof"
)

type point struct{ x, y int }

var nowhere *point

//go:noinline
func use(p *point) int { return p.y }

//go:noinline
func fail() {
	println("threads:", pprof.Lookup("threadcreate").Count())
	panic("with others about")
}

func main() {
	switch os.Args[1] {
	case "nil":
		println(use(nowhere))
	case "deadlock":
		done := make(chan bool)
		go func() { <-make(chan int) }()
		<-done
	case "exit":
		os.Exit(3)
	case "threads":
		for range [2]int{} {
			go func() {
				runtime.LockOSThread() // so that it has a thread of its own
				<-make(chan int)
			}()
		}
		for range [3]int{} {
			runtime.Gosched()
		}
		fail()
	case "loop":
		for {
		}
	}
}
