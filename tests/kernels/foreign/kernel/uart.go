package main

// The serial port, where it was found to be.
const (
	uartData  = 0x09000000
	uartFlags = 0x09000018
)

func puts(s string) {
	for i := 0; i < len(s); i++ {
		for mmioRead(uartFlags)&(1<<5) != 0 {
		}
		mmioWrite(uartData, uint32(s[i]))
	}
}
