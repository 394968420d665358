// Package main fails as its argument says, in ways that only a program with all of the runtime can.
package main

import "os"

type point struct{ x, y int }

var nowhere *point

//go:noinline
func use(p *point) int { return p.y }

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
	case "loop":
		for {
		}
	}
}
