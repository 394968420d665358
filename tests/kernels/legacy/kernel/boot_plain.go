//go:build !booted

package main

const way = "the boot code of buildsys"
