package main

import (
	"fmt"
	"os"
	"time"

	"several/memory"
	"several/metal"
)

// Registers of a PL011 (DDI 0183, 3.3), and the interrupt that says that there is room to send.
const (
	sending, masking, clearing = 0x00, 0x38, 0x44
	room                       = 1 << 5
)

// bare sends by the serial port's registers, and waits for its interrupt, whose number is the second argument.
func bare() {
	uart, err := metal.Find("uart")
	must(err == nil, "the uart", err)
	_, err = metal.Find("nothing")
	must(err != nil, "a device that is not there")
	began := metal.Counter()
	time.Sleep(time.Millisecond)
	must(metal.Counter()-began >= metal.Frequency()/1000, "the counter", began, metal.Counter())
	if len(os.Args) < 3 {
		return
	}
	number := 0
	fmt.Sscan(os.Args[2], &number)
	interrupt, err := metal.NewInterrupt(number)
	must(err == nil, "the interrupt", err)
	_, err = metal.NewInterrupt(number)
	must(err != nil, "the interrupt, once more")
	send := func(letter byte) {
		memory.Store32(uart.Base+masking, room)
		memory.Store32(uart.Base+sending, uint32(letter))
	}
	quiet := func() {
		memory.Store32(uart.Base+masking, 0)
		memory.Store32(uart.Base+clearing, room)
	}
	for at, letter := range []byte("abc") {
		send(letter)
		count := <-interrupt.C
		quiet()
		must(count == uint32(at+1), "interrupts", count)
		must(interrupt.Done() == nil, "done")
	}
	must(interrupt.Close() == nil, "close")
	_, open := <-interrupt.C
	must(!open, "the channel is closed")
	came := make(chan bool)
	stop, err := metal.OnInterrupt(number, func() { quiet(); came <- true })
	must(err == nil, "on interrupt", err)
	send('\n')
	<-came
	must(stop() == nil, "stop")
	before, err := metal.Barriers()
	must(err == nil, "barriers", err)
	collector()
	after, err := metal.Barriers()
	must(err == nil && after > before, "barriers", err, before, after)
}
