package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// What the bare kernel could not have: a port behind an interface, memory of the program's own, global pointers.
type port interface{ put(letter byte) }

type uartDevice struct{ sent []byte }

func (u *uartDevice) put(letter byte) { u.sent = append(u.sent, letter) }

type link struct {
	next  *link
	value int
}

var (
	head   *link
	device port
)

func enables() {
	for value := 0; value < 1000; value++ {
		head = &link{head, value}
	}
	runtime.GC()
	seen := 0
	for at := head; at != nil; at = at.next {
		seen += at.value
	}
	must(seen == 499_500, "the list has lost links", seen)
	device = &uartDevice{}
	for _, letter := range []byte("port") {
		device.put(letter)
	}
	uart, is := device.(*uartDevice)
	must(is && string(uart.sent) == "port", "an interface", device)
	buffer := make([]byte, 100)
	must(len(buffer) == 100 && buffer[99] == 0, "make", len(buffer))
	arena, used := make([]byte, 1<<16), uintptr(0)
	allocate := func(size uintptr) unsafe.Pointer {
		place := unsafe.Pointer(&arena[used])
		used += (size + 15) &^ 15
		return place
	}
	first, second := (*uint64)(allocate(8)), (*uint64)(allocate(8))
	*first, *second = 1, 2
	must(*first == 1 && uintptr(unsafe.Pointer(second)) == uintptr(unsafe.Pointer(first))+16, "an allocator", *first)
}

// shared has goroutines take turns: a mutex, a read-write lock, once, a condition, a pool, select.
func shared() {
	var (
		lock    sync.Mutex
		many    sync.RWMutex
		once    sync.Once
		working sync.WaitGroup
		total   int
		begun   atomic.Int64
	)
	pool := sync.Pool{New: func() any { return new([64]byte) }}
	for range [100]int{} {
		working.Add(1)
		go func() {
			defer working.Done()
			once.Do(func() { begun.Add(1) })
			room := pool.Get().(*[64]byte)
			room[0]++
			pool.Put(room)
			for range [100]int{} {
				lock.Lock()
				total++
				lock.Unlock()
				many.RLock()
				runtime.Gosched()
				many.RUnlock()
			}
		}()
	}
	working.Wait()
	must(total == 10_000 && begun.Load() == 1, "counted under a lock", total, begun.Load())
	left, right, stop := make(chan int), make(chan int), make(chan bool)
	go func() {
		for value := 0; value < 100; value++ {
			select {
			case left <- value:
			case right <- value:
			}
		}
		close(stop)
	}()
	sum := 0
	for open := true; open; {
		select {
		case value := <-left:
			sum += value
		case value := <-right:
			sum += value
		case <-stop:
			open = false
		}
	}
	must(sum == 4950, "selected", sum)
}

// overflow calls itself until its stack may grow no further, which cannot be recovered.
func overflow() {
	debug.SetMaxStack(1 << 20)
	fmt.Println(bottomless(0))
}

// deepest does so with Go's own limit, which is more than the RAM there is.
func deepest() {
	fmt.Println(bottomless(0))
}

func bottomless(depth int) int {
	return bottomless(depth+1) + depth
}

// stray follows a pointer to where nothing is: with a panic if that was asked for, and then without.
func stray() {
	nowhere := 0x1234_5678_9000 * uintptr(len(os.Args)/len(os.Args))
	func() {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			said := fmt.Sprint(recover())
			must(strings.Contains(said, "invalid memory address"), "another panic", said)
		}()
		fmt.Println(*at(nowhere))
	}()
	fmt.Println(*at(nowhere))
}

// at is what lies at an address.
func at(address uintptr) *uint32 {
	return *(**uint32)(unsafe.Pointer(&address))
}

// protected asks for memory: to be written or to be executed, and not both.
func protected() {
	const both = syscall.PROT_WRITE | syscall.PROT_EXEC
	anonymous := syscall.MAP_ANON | syscall.MAP_PRIVATE
	_, err := syscall.Mmap(-1, 0, 4096, both, anonymous)
	must(err == syscall.EACCES, "mapped to be written and executed", err)
	page, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, anonymous)
	must(err == nil, "mmap", err)
	must(syscall.Mprotect(page, both) == syscall.EACCES, "changed to be written and executed")
	copy(page, []byte{0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6}) // mov w0, #42; ret
	must(syscall.Mprotect(page, syscall.PROT_READ|syscall.PROT_EXEC) == nil, "mprotect")
	place := unsafe.Pointer(&page[0])
	code := &place
	made := *(*func() int)(unsafe.Pointer(&code))
	number := made()
	must(number == 42, "made code", number)
}

// guard reads below the stack of the first thread, though memory was asked for that fits there.
func guard() {
	_, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	must(err == nil, "mmap", err)
	const size = 8 << 20
	name := os.Args[0] // it lies there
	low := uintptr(**(**uint64)(unsafe.Pointer(&[]*string{&name}[0]))) &^ (size - 1)
	must(*at(low) == 0, "the end of the stack", *at(low))
	fmt.Println(*at(low - 4))
}

// zeroPage, constant and data are what a program must not do to memory: each is a fault.
func zeroPage() {
	fmt.Println(*at(8 * uintptr(len(os.Args)/len(os.Args))))
}

func constant() {
	text := "constant"
	*(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&text))) = 'C'
}

func data() {
	words := [...]uint32{0xd65f03c0} // ret
	kept := &words
	place := uintptr(unsafe.Pointer(kept))
	code := &place
	(*(*func())(unsafe.Pointer(&code)))()
}
