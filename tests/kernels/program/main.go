// Package main is a Go program of several parts; its first argument says which are run.
// Each part says that it is done, or panics.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	for _, name := range strings.Split(os.Args[1], ",") {
		parts[name]()
		fmt.Println("done", name)
	}
}

// parts are what can be run.
var parts = map[string]func(){
	"arguments":  arguments,
	"collector":  collector,
	"deadlock":   deadlock,
	"deep":       deep,
	"exit":       func() { os.Exit(7) },
	"exhausted":  exhausted,
	"goroutines": goroutines,
	"huge":       huge,
	"libraries":  libraries,
	"maps":       maps,
	"nilmap":     nilMap,
	"pipes":      pipes,
	"preempted":  preempted,
	"recovered":  recovered,
	"threads":    threads,
	"times":      times,
	"unknown":    unknown,
	"wild":       wild,
}

// must panics unless something is so.
func must(so bool, what string, seen ...any) {
	if !so {
		panic(fmt.Sprint(what, ": ", seen))
	}
}
