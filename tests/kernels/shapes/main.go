// Package main has a function for each way Go code can come to other code. Each is
// an entry that is run bare, as far as it gets: what ran must be what was said to be reachable.
package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

type node struct{ next *node }

var (
	head   *node
	first  node
	sink   int
	nobody any
)

func main() {
	for _, each := range []func() int32{
		Closures, Methods, Interfaces, Switches, Generics, Defers, Sorting, Numbers, NilMaps, Comparisons,
		Allocates, Formats, Maps, Channels, Goroutines, Reflects, Asserts, Builds, Panics, Prints, Locks, Errors,
		Tables,
	} {
		sink += int(each())
	}
}

//go:noinline
func twice(f func(int) int, x int) int { return f(f(x)) }

//go:noinline
func plus(x int) int { return x + 1 }

var chosen = plus

//go:noinline
func Closures() int32 {
	head = &first
	by := sink + 3
	return int32(twice(func(x int) int { return x + by }, 1) + twice(plus, 1) + twice(chosen, 1))
}

type counter struct{ n int }

//go:noinline
func (c *counter) add(x int) int { c.n += x; return c.n }

//go:noinline
func (c counter) get(x int) int { return c.n + x }

//go:noinline
func Methods() int32 {
	head = &first
	var c counter
	value, expression := c.add, counter.get
	return int32(twice(value, 2) + expression(c, 1) + twice(c.get, 1))
}

type shape interface {
	area() int
	scale(by int) shape
}

type square struct{ side int }
type box struct{ square }

//go:noinline
func (s *square) area() int { return s.side * s.side }

//go:noinline
func (s *square) scale(by int) shape { s.side *= by; return s }

var kept = [...]shape{&square{2}, &box{square{3}}}

//go:noinline
func Interfaces() int32 {
	head = &first
	sum := 0
	for _, each := range kept {
		sum += each.scale(2).area()
	}
	return int32(sum)
}

//go:noinline
func kind(x any) int {
	switch v := x.(type) {
	case nil:
		return 0
	case int:
		return v
	case string:
		return len(v)
	case error:
		return len(v.Error())
	case *square:
		return v.area()
	case fmt.Stringer:
		return len(v.String())
	case []int:
		return len(v)
	}
	return 9
}

//go:noinline
func cases(x int) int {
	switch x {
	case 0:
		return plus(3)
	case 1:
		return plus(5)
	case 2:
		return twice(plus, 1)
	case 3:
		return kind(nil)
	case 4:
		return 17
	case 5:
		return kept[0].area()
	case 6:
		return 21
	case 7:
		return 4
	case 8:
		return plus(8)
	}
	return 1
}

//go:noinline
func Switches() int32 {
	head = &first
	sum := kind(&square{2}) + kind(nobody)
	for x := 0; x < 10; x++ {
		sum += cases(x)
	}
	return int32(sum)
}

type number interface{ ~int | ~uint8 }

//go:noinline
func total[T number](of []T, f func(T) T) (sum T) {
	for _, each := range of {
		sum += f(each)
	}
	return sum
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

//go:noinline
func find[K comparable, V any](in []pair[K, V], key K) (v V) {
	for _, each := range in {
		if each.key == key {
			return each.value
		}
	}
	return v
}

//go:noinline
func Generics() int32 {
	head = &first
	sum := total([]int{1, 2}, plus) + int(total([]uint8{3}, func(x uint8) uint8 { return x * 2 }))
	sum += find([]pair[string, int]{{"a", 1}, {"b", 2}}, "b")
	return int32(sum + find([]pair[[2]string, int]{{[2]string{"a", "b"}, 2}}, [2]string{"a", "c"}))
}

//go:noinline
func deferred(c *counter) (n int) {
	defer func() { n = c.add(1) }()
	defer c.add(2)
	return c.add(4)
}

//go:noinline
func Defers() int32 {
	head = &first
	var c counter
	sum := deferred(&c)
	for i := 0; i < 3; i++ {
		defer c.add(i)
	}
	return int32(sum)
}

type numbers []int

func (n numbers) Len() int           { return len(n) }
func (n numbers) Less(i, j int) bool { return n[i] < n[j] }
func (n numbers) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }

var unsorted = numbers{5, 3, 9, 1, 7, 2, 8, 6, 4, 0, 15, 13, 19, 11, 17, 12, 18, 16, 14, 10}

//go:noinline
func Sorting() int32 {
	head = &first
	sort.Sort(&unsorted)
	at := sort.Search(len(unsorted), func(i int) bool { return unsorted[i] >= 7 })
	sort.Slice(unsorted, func(i, j int) bool { return unsorted[i] > unsorted[j] })
	return int32(at)
}

//go:noinline
func Numbers() int32 {
	head = &first
	var buffer [32]byte
	text := strconv.AppendInt(buffer[:0], int64(sink)+42, 10)
	r, _ := utf8.DecodeRune(text)
	text = strconv.AppendFloat(text, 1.5, 'g', -1, 64)
	n, _ := strconv.Atoi("17")
	return int32(len(text)) + r + int32(n) + int32(strings.Index("a needle in it", "needle"))
}

type key struct {
	a any
	s string
}

var (
	nilMap      map[string]int
	nilOfAny    map[any]int
	nilOfStruct map[key]int
)

//go:noinline
func NilMaps() int32 {
	head = &first
	n := nilMap["x"] + len(nilMap)
	delete(nilMap, "y")
	for range nilMap {
		n++
	}
	return int32(n + nilOfStruct[key{1, "a"}] + nilOfAny["a"] + nilOfAny[key{nobody, "b"}])
}

var left, right any = key{"l", "r"}, key{"l", "s"}

//go:noinline
func Comparisons() int32 {
	head = &first
	n := int32(0)
	if left == right || left == nobody {
		n++
	}
	if [2]any{left, 1} != [2]any{right, 1} {
		n += 2
	}
	if kept[0] == kept[1] {
		n += 4
	}
	return n
}

//go:noinline
func Allocates() int32 {
	head = &node{&first}
	return int32(len(append([]int(nil), make([]int, sink+3)...)))
}

//go:noinline
func Formats() int32 {
	head = &first
	n, _ := fmt.Println("hello", 3, left)
	return int32(n)
}

//go:noinline
func Maps() int32 {
	head = &first
	m := map[key]int{}
	m[key{"a", "b"}] = 3
	for k := range m {
		delete(m, k)
	}
	return int32(len(m))
}

//go:noinline
func Channels() int32 {
	head = &first
	c := make(chan int, 1)
	c <- 1
	select {
	case n := <-c:
		return int32(n)
	default:
	}
	return 0
}

//go:noinline
func Goroutines() int32 {
	head = &first
	var group sync.WaitGroup
	group.Add(1)
	go group.Done()
	group.Wait()
	return 0
}

//go:noinline
func Reflects() int32 {
	head = &first
	v := reflect.ValueOf(kept[0])
	return int32(v.NumMethod() + len(v.MethodByName("Area").String()))
}

//go:noinline
func Asserts() int32 {
	head = &first
	n := kind(kept[1])
	if w, ok := left.(io.Writer); ok {
		n, _ = w.Write(nil)
	}
	return int32(n)
}

//go:noinline
func Builds() int32 {
	head = &first
	var b strings.Builder
	b.WriteString("a")
	return int32(len(b.String() + strings.Repeat("b", 3)))
}

//go:noinline
func Panics() int32 {
	head = &first
	defer func() { sink += kind(recover()) }()
	return int32(kept[sink+5].area())
}

//go:noinline
func Prints() int32 {
	head = &first
	println("a", sink)
	return 0
}

//go:noinline
func Locks() int32 {
	head = &first
	var lock sync.Mutex
	lock.Lock()
	lock.Unlock()
	var once sync.Once
	once.Do(func() { sink++ })
	return 0
}

var errSome = errors.New("some")

//go:noinline
func Errors() int32 {
	head = &first
	if errors.Is(errSome, io.EOF) {
		return 1
	}
	return int32(len(io.EOF.Error()))
}

var table = [...]struct {
	name string
	run  func(int) int
}{{"plus", plus}, {"twice", func(x int) int { return twice(plus, x) }}}

//go:noinline
func Tables() int32 {
	head = &first
	n := 0
	for _, each := range table {
		n += each.run(len(each.name))
	}
	return int32(n)
}
