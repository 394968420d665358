//go:build go1.24

package main

import (
	"runtime"
	"weak"
)

// weakly has an object that only a weak pointer leads to collected, and cleaned up after.
func weakly() {
	cleaned := make(chan int, 1)
	pointer := func() weak.Pointer[node] {
		object := &node{number: 5}
		runtime.AddCleanup(object, func(number int) { cleaned <- number }, 7)
		pointer := weak.Make(object)
		must(pointer.Value().number == 5, "a weak pointer", pointer.Value())
		runtime.KeepAlive(object)
		return pointer
	}()
	for pointer.Value() != nil {
		runtime.GC()
	}
	number := <-cleaned
	must(number == 7, "a cleanup", number)
}
