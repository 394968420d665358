//go:build !pointers

package main

var more []func()

func kept() {}
