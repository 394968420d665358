// Package main is a Go program like any other. It runs on the bare machine: what it asks of
// Linux elsewhere it asks here of the supervisor that is linked in beside it.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	began := time.Now()
	words := make(chan string) // goroutines, channels, maps and the collector are Go's own
	for _, word := range os.Args[1:] {
		go func(word string) { words <- word }(word)
	}
	lengths := map[string]int{}
	for range os.Args[1:] {
		word := <-words
		lengths[word] = len(word)
	}
	fmt.Println(os.Getenv("GREETING")+" from Go:", lengths) // standard output is the serial port
	time.Sleep(10 * time.Millisecond)
	if time.Since(began) < 10*time.Millisecond {
		os.Exit(1) // the exit status is that of the run
	}
}
