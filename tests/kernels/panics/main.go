// Package main ends in every way a Go program can end by itself, on an operating system:
// what it says there is what a kernel with the same provoke.go is to say without one.
package main

func main() {
	println(provoke(which))
}
