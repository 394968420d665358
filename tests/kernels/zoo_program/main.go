// Package main fails as its argument says, in ways that only a program with all of the runtime can.
package main

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"syscall"
	"unsafe"
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

//go:noinline
func wait() {
	runtime.LockOSThread() // so that no other thread runs it
	here := [1]byte{'!'}
	syscall.RawSyscall(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&here)), 1)
	for {
		syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
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
	case "child":
		recovered := exec.Command(os.Args[0], "nil").Run()
		child := exec.Command(os.Args[0], "waits")
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err == nil {
			_, err = out.Read(make([]byte, 1))
		}
		println("child:", child.Process.Pid, recovered.Error(), err == nil)
		fail()
	case "waits":
		wait()
	case "loop":
		for {
		}
	}
}
