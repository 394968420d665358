//go:build booted

package main

const way = "its own boot code"
