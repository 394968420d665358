//go:build nested

package main

import _ "unsafe" // for go:linkname

var more = []func(){nested}

func kept() { passOuter(one) }

//go:linkname originalOuter original.main.workOuter
func originalOuter(x uint64) uint64

//go:noinline
func passOuter(x uint64) uint64 { return originalOuter(x) + 2000 }

//go:noinline
func workInner(x uint64) uint64 { return x + 1 }

// workOuter has the address of another that is replaced: as an original it is run on purpose, the other is not.
//
//go:noinline
func workOuter(x uint64) uint64 { return apply(workInner, x) }

//go:noinline
func nested() { report("nested", workOuter(one)) }
