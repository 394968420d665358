//go:build !pointers && !nested

package main

var more []func()

func kept() {}
