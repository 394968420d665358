package main

import "unsafe"

// A node is one element of the list, in memory from kmalloc.
type node struct {
	next  *node
	value uint64
}

// The list: both nil if it is empty.
var listHead, listTail *node

const listLength = 24

// checkList changes the list in each way that moves its head, its tail or both, and
// checks after each that it holds the right values.
func checkList() string {
	emptyHeap() // so that no check suffers from what another left
	for value := uint64(1); value <= listLength; value++ {
		if !pushBack(value) {
			return "no memory for a node"
		}
	}
	if !listHolds(1, 1, listLength) {
		return "nodes pushed to the back are not there"
	}
	if !pushFront(0) || !listHolds(0, 1, listLength+1) {
		return "a node pushed to the front is not there"
	}
	reverse()
	if !listHolds(listLength, ^uint64(0), listLength+1) {
		return "reversed, it does not hold its values backwards"
	}
	for value := uint64(0); value <= listLength; value += 2 { // the tail, the head, some between
		if !remove(value) {
			return "a value to remove was not found"
		}
	}
	if !listHolds(listLength-1, ^uint64(1), listLength/2) {
		return "after removing every other node, the rest is not right"
	}
	for value := uint64(1); value <= listLength; value += 2 {
		if !remove(value) {
			return "a value to remove was not found"
		}
	}
	if stored(&listHead) != 0 || stored(&listTail) != 0 {
		return "with all nodes removed, its head or its tail is left"
	}
	return heapFault()
}

// newNode is a node with no next, nil if there is no memory.
func newNode(value uint64) *node {
	n := (*node)(kmalloc(uint32(unsafe.Sizeof(node{}))))
	if n != nil {
		n.next, n.value = nil, value
	}
	return n
}

// pushBack adds value after the tail. It is false if there is no memory.
//
//go:noinline
func pushBack(value uint64) bool {
	n := newNode(value)
	if n == nil {
		return false
	}
	if listTail == nil {
		listHead = n
	} else {
		listTail.next = n
	}
	listTail = n
	return true
}

// pushFront adds value before the head. It is false if there is no memory.
//
//go:noinline
func pushFront(value uint64) bool {
	n := newNode(value)
	if n == nil {
		return false
	}
	n.next = listHead
	listHead = n
	if listTail == nil {
		listTail = n
	}
	return true
}

// reverse turns the list around.
//
//go:noinline
func reverse() {
	var done *node
	listTail = listHead
	for listHead != nil {
		n := listHead
		listHead = n.next
		n.next = done
		done = n
	}
	listHead = done
}

// remove takes out the first node with the value. It is false if there is none.
//
//go:noinline
func remove(value uint64) bool {
	var before *node
	for n := listHead; n != nil; before, n = n, n.next {
		if n.value != value {
			continue
		}
		if before == nil {
			listHead = n.next
		} else {
			before.next = n.next
		}
		if listTail == n {
			listTail = before
		}
		return kfree(unsafe.Pointer(n))
	}
	return false
}

// listHolds tells whether the list is count values long, the first given, each next by
// step more (modulo 2^64), and its tail the last. It stops at count, should the list be
// a ring.
//
//go:noinline
func listHolds(first, step uint64, count int) bool {
	at := stored(&listHead)
	for ; count > 0; count-- {
		if at == 0 {
			return false
		}
		n := castToPointer[node](at)
		if n.value != first {
			return false
		}
		first += step
		if at = stored(&n.next); at == 0 {
			return count == 1 && stored(&listTail) == address(n)
		}
	}
	return false
}
