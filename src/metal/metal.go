// Package metal is what a program on the bare machine can ask of the supervisor beneath it
// besides what it asks of Linux: the board's devices, their interrupts, the processor's
// counter, and how many write barriers were counted. Registers of devices are read and
// written by package memory: a program runs at EL1, where they are mapped.
//
// All of it but the counter is files, which exist nowhere else: elsewhere each function
// returns an error.
package metal

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// A Device is one of the board's: what kind it is and where its registers are.
type Device struct {
	Name, Model string
	Base, Size  uintptr
}

// Devices are all of them; the serial port that standard output goes to is called uart.
func Devices() ([]Device, error) {
	text, err := os.ReadFile("/dev/board")
	if err != nil {
		return nil, err
	}
	var found []Device
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var each Device
		if _, err := fmt.Sscanf(line, "%s %s %v %v", &each.Name, &each.Model, &each.Base, &each.Size); err != nil {
			return nil, fmt.Errorf("metal: /dev/board: %q: %w", line, err)
		}
		found = append(found, each)
	}
	return found, nil
}

// Find is the device of that name.
func Find(name string) (Device, error) {
	all, err := Devices()
	for _, each := range all {
		if each.Name == name {
			return each, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("metal: the board has no device %q", name)
	}
	return Device{}, err
}

// Barriers is how often the program called a write barrier so far, if these are counted: barrier = "count" in the
// configuration.
func Barriers() (uint64, error) {
	text, err := os.ReadFile("/dev/barriers")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// An Interrupt is one of the interrupt controller's, enabled. When it comes, the controller is told to hold it back,
// and C gets how often it came in all. Done lets it come again: after the device was made to take it back.
type Interrupt struct {
	C    <-chan uint32
	file *os.File
	once sync.Once
}

// NewInterrupt enables the interrupt of that number: on a GIC, 32 and above are those of devices.
func NewInterrupt(number int) (*Interrupt, error) {
	file, err := os.OpenFile("/dev/interrupt/"+strconv.Itoa(number), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	came := make(chan uint32)
	made := &Interrupt{C: came, file: file}
	go func() {
		defer close(came)
		for {
			var count [4]byte
			if _, err := file.Read(count[:]); err != nil {
				return // closed
			}
			came <- binary.LittleEndian.Uint32(count[:])
		}
	}()
	if err := made.Done(); err != nil {
		file.Close()
		return nil, err
	}
	return made, nil
}

// Done lets the interrupt come again.
func (i *Interrupt) Done() error {
	_, err := i.file.Write([]byte{1, 0, 0, 0})
	return err
}

// Close disables the interrupt. One that came already may have to be received from C before that is closed.
func (i *Interrupt) Close() error {
	err := os.ErrClosed
	i.once.Do(func() { err = i.file.Close() })
	return err
}

// OnInterrupt has handle called, by a goroutine of its own, each time the interrupt comes; it comes again when handle
// returned. stop disables it.
func OnInterrupt(number int, handle func()) (stop func() error, err error) {
	interrupt, err := NewInterrupt(number)
	if err != nil {
		return nil, err
	}
	go func() {
		for range interrupt.C {
			handle()
			if interrupt.Done() != nil {
				return
			}
		}
	}()
	return interrupt.Close, nil
}
