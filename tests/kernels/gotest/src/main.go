// Package main is what the project would build; its tests are in the folders beside it.
package main

func main() {}
