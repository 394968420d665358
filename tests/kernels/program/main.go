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
	"became":     became,
	"becomes":    becomes,
	"chance":     chance,
	"collector":  collector,
	"constant":   constant,
	"data":       data,
	"deadlock":   deadlock,
	"deep":       deep,
	"deepest":    deepest,
	"enables":    enables,
	"exit":       func() { os.Exit(7) },
	"exhausted":  exhausted,
	"forks":      forks,
	"goroutines": goroutines,
	"greedy":     greedy,
	"guard":      guard,
	"huge":       huge,
	"input":      input,
	"leaves":     leaves,
	"libraries":  libraries,
	"many":       many,
	"maps":       maps,
	"metal":      bare,
	"nilmap":     nilMap,
	"nowhere":    nowhere,
	"outlived":   outlived,
	"overflow":   overflow,
	"pipes":      pipes,
	"preempted":  preempted,
	"processes":  processes,
	"protected":  protected,
	"recovered":  recovered,
	"shared":     shared,
	"stray":      stray,
	"threads":    threads,
	"together":   together,
	"times":      times,
	"unknown":    unknown,
	"weakly":     weakly,
	"wild":       wild,
	"zero":       zeroPage,
}

// must panics unless something is so.
func must(so bool, what string, seen ...any) {
	if !so {
		panic(fmt.Sprint(what, ": ", seen))
	}
}
