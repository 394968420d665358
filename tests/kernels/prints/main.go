// Package main prints values of every kind, on an operating system as a kernel with the
// same values.go is to print them without one.
package main

func main() {
	values()
}
