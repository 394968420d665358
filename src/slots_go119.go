//go:build !go1.21

package main

// slotsInR25 tells how this Go's barriers work. Up to Go 1.20 a barrier makes the store
// itself, of x3 to where x2 points, and nothing is said of x25.
const slotsInR25 = false
