// Package main is a kernel for each thing of Go that a bare kernel has not, with the sets print, panic and alloc.
package main

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"
	_ "unsafe"
)

// main keeps each entry from being left out.
func main() {
	for _, entry := range [...]func() int32{
		Waits, WaitsForNothing, Selects, Locks, Groups, Recovers, Recurses, Now, Sleeps, TimesOut, Yields, Leaves,
		Clocked, Initialised, Starts, Prints,
	} {
		entry()
	}
	sleep(0)
}

var lines = make(chan string)

// Waits for what nobody sends.
//
//go:noinline
func Waits() int32 {
	values := make(chan int32)
	return <-values
}

// WaitsForNothing has no case at all.
//
//go:noinline
func WaitsForNothing() int32 { select {} }

// Selects among channels of which none is ready.
//
//go:noinline
func Selects() int32 {
	some, others := make(chan int32), make(chan int32, 1)
	select {
	case some <- 1:
	case value := <-others:
		return value
	}
	return 0
}

// Locks what is locked.
//
//go:noinline
func Locks() int32 {
	var lock sync.Mutex
	lock.Lock()
	lock.Lock()
	return 0
}

// Groups waits for what nobody does.
//
//go:noinline
func Groups() int32 {
	var group sync.WaitGroup
	group.Add(1)
	group.Wait()
	return 0
}

// Recovers from a panic.
//
//go:noinline
func Recovers() int32 {
	defer func() { _ = recover() }()
	panic("not recovered")
}

// Recurses until there is no stack.
//
//go:noinline
func Recurses() int32 { return deep(0) }

//go:noinline
func deep(n int32) int32 { return deep(n+1) + n }

// Now asks for the time.
//
//go:noinline
func Now() int32 { return int32(time.Now().Year()) }

// Sleeps for some time.
//
//go:noinline
func Sleeps() int32 {
	time.Sleep(time.Second)
	return 0
}

// Yields to other goroutines.
//
//go:noinline
func Yields() int32 {
	runtime.Gosched()
	return 0
}

// TimesOut waits for a timer.
//
//go:noinline
func TimesOut() int32 {
	<-time.After(time.Second)
	return 0
}

// Leaves ends the only goroutine.
//
//go:noinline
func Leaves() int32 {
	runtime.Goexit()
	return 0
}

// Clocked asks for the time, and sleeps, with functions of its own in the place of time's.
//
//go:noinline
func Clocked() int32 {
	began := time.Now()
	time.Sleep(time.Millisecond)
	if time.Now().Sub(began) < time.Millisecond {
		return 1
	}
	return 0
}

// counter and frequency are in asm/counter.s.
//
//go:linkname counter counter
func counter() uint64

//go:linkname frequency frequency
func frequency() uint64

// now takes the place of time.Now: the time since reset.
//
//go:noinline
func now() time.Time {
	ticks, second := counter(), frequency()
	return time.Unix(int64(ticks/second), int64(ticks%second*1e9/second))
}

// sleep takes the place of time.Sleep.
//
//go:noinline
func sleep(d time.Duration) {
	for until := now().Add(d); now().Before(until); {
	}
}

// Initialised uses a variable that the package's initialiser gives its value.
//
//go:noinline
func Initialised() int32 {
	if words["one"] != "1" {
		println("words is empty")
		return 1
	}
	return 0
}

var words = map[string]string{"one": strconv.Itoa(len(lines) + 1)}

// Starts a goroutine.
//
//go:noinline
func Starts() int32 {
	go func() { println("started") }()
	return 0
}

// Prints to standard output.
//
//go:noinline
func Prints() int32 {
	fmt.Println("printed")
	return 0
}
