// Package main is a kernel that links half of the standard library and reaches
// none of it: an image large enough to measure the tools with.
package main

import (
	"database/sql"
	"go/token"
	"go/types"
	"net/http"
)

// node is linked to by head with a write barrier.
type node struct{ next *node }

var (
	head  *node
	first node
)

// KernelMain stores a pointer.
//
//go:noinline
func KernelMain() int32 {
	head = &first
	if head != &first {
		return 1
	}
	return 0
}

func main() {
	KernelMain()
	// What the linker is to keep; nothing of it runs.
	_ = http.ListenAndServe("", http.FileServer(http.Dir(".")))
	_, _ = (&types.Config{}).Check("", token.NewFileSet(), nil, nil)
	_, _ = sql.Open("", "")
}
