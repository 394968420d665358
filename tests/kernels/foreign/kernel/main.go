// Package main is a kernel that was built by a linker script of its own, and never ends.
package main

func main() { Main() }

// Main is called by boot code.
//
//go:noinline
func Main() {
	puts("foreign: begins\r\n")
	if !flagSet() {
		fail("the flag is not where it was")
	}
	pagesInit()
	vectorsInit()
	if n := pciScan(); n != 1 {
		fail("not one PCI function")
	}
	if !screenInit() {
		fail("no screen")
	}
	theScreen.show(picture())
	puts("foreign: running\r\n")
	for {
		idle()
	}
}

func fail(what string) {
	puts("ERROR: ")
	puts(what)
	puts("\r\n")
	exit(1)
}
