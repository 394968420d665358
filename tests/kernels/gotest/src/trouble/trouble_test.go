// Package trouble has tests that take the program with them, each in its way; and a TestMain that hides things.
package trouble

import (
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// off ends the machine's run with status 0, without a word to the supervisor.
func off()

func TestMain(m *testing.M) {
	main := os.Getenv("MAIN")
	flag.Parse()
	if listing := flag.Lookup("test.list").Value.String() != ""; listing {
		if main != "lists nothing" {
			m.Run()
		}
		os.Exit(0)
	}
	switch main {
	case "leaves":
		os.Exit(0)
	case "silent":
		fmt.Println("PASS")
		leave()
	case "covers up":
		m.Run()
		os.Exit(0)
	case "forgets":
		if err := flag.Set("test.skip", "TestLast"); err != nil {
			panic(err)
		}
	case "panics":
		panic("before any test")
	case "fails":
		m.Run()
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func leave() {
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
}

// faulty touches what is not there, in a goroutine: no test can recover that.
func faulty() {
	go func() {
		var missing *int
		*missing = 1
	}()
	select {}
}

func TestFirst(t *testing.T)  {}
func TestFaults(t *testing.T) { faulty() }
func TestMiddle(t *testing.T) {}
func TestPanics(t *testing.T) { panic("in a test") }
func TestExits(t *testing.T)  { os.Exit(0) }
func TestLeaves(t *testing.T) { leave() }
func TestOff(t *testing.T)    { off() }
func TestHangs(t *testing.T)  { <-make(chan int) }
func TestFails(t *testing.T)  { t.Error("as it should") }

// TestLocks never comes back, nor do the others while it runs: Go cannot say so.
func TestLocks(t *testing.T) { lock() }

// lock masks interrupts and stays.
func lock()

// Of these one faults while the others run.
func TestParallelGood(t *testing.T) {
	t.Parallel()
	time.Sleep(50 * time.Millisecond)
}

func TestParallelFaulty(t *testing.T) {
	t.Parallel()
	time.Sleep(10 * time.Millisecond)
	faulty()
}

// Of these neither does any harm alone.
func TestTogetherOne(t *testing.T)   { together(t) }
func TestTogetherOther(t *testing.T) { together(t) }

var running int32

func together(t *testing.T) {
	if os.Getenv("TOGETHER") == "" {
		t.Skip("not asked for")
	}
	t.Parallel()
	if atomic.AddInt32(&running, 1) == 2 {
		faulty()
	}
	time.Sleep(50 * time.Millisecond)
}

func TestLast(t *testing.T) {}
