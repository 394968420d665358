// Package features uses what allocates of the language and of a few packages, and says what came of it.
//
// It says the same wherever it runs: on bare metal with an allocator of a kernel's, and as a
// program of its own on an operating system, with Go's. Nothing here depends on addresses or time.
package features

import (
	"errors"
	"strconv"
	"strings"
	"unsafe"
)

// A Printer takes one line, without its end.
type Printer func(line string)

// What is stored here escapes, so that the compiler puts it on the heap.
var (
	sink    any
	numbers []*int
	kept    []byte
	words   []string
)

// feature is one line of the table: what is used, and the value that comes of it.
type feature struct {
	name string
	use  func() string
}

// The tables are static data: no package initialiser has to run for them.
var table = [...]feature{
	{"new", useNew},
	{"zero-sized", useZeroSized},
	{"composite literal", useLiteral},
	{"make", useMake},
	{"append", useAppend},
	{"append pointers", useAppendPointers},
	{"append strings", useAppendStrings},
	{"append structs", useAppendStructs},
	{"slice copied", useSliceCopy},
	{"closure", useClosure},
	{"method value", useMethodValue},
	{"method expression", useMethodExpression},
	{"concatenation", useConcatenation},
	{"bytes and strings", useConversions},
	{"runes", useRunes},
	{"interface values", useInterfaces},
	{"interface methods", useMethods},
	{"type switch", useTypeSwitch},
	{"comparison", useComparison},
	{"variadic", useVariadic},
	{"defer", useDefer},
	{"generics", useGenerics},
	{"tree", useTree},
	{"linked list", useList},
	{"errors", useErrors},
	{"strconv", useStrconv},
	{"strings.Builder", useBuilder},
	{"strings", useStrings},
	{"random sizes", useRandomSizes},
	{"sorting", useSorting},
}

// Run prints a line for each feature.
//
//go:noinline
func Run(print Printer) {
	for i := range table {
		print(table[i].name + ": " + table[i].use())
	}
	more(print)
}

type point struct{ x, y int }

func (p point) sum() int { return p.x + p.y }

func (p *point) move(by int) *point {
	p.x += by
	p.y += by
	return p
}

//go:noinline
func escape[T any](value T) *T { return &value }

func useNew() string {
	total := 0
	numbers = nil
	for i := 0; i < 100; i++ {
		p := new(int)
		total += *p // 0
		*p = i
		numbers = append(numbers, p)
	}
	for _, p := range numbers {
		total += *p
	}
	b, w, big := new(byte), new(uint16), new([1000]int)
	sink = [...]any{b, w, big}
	return strconv.Itoa(total + int(*b) + int(*w) + big[999])
}

func useZeroSized() string {
	a, b := new(struct{}), make([]struct{}, 1000)
	sink = [...]any{a, b}
	return strconv.Itoa(len(b)) + strconv.FormatBool(a != nil)
}

func useLiteral() string {
	p := escape(point{3, 4})
	shapes := []*point{p, {5, 6}, escape(point{7, 8})}
	sink = shapes
	total := 0
	for _, each := range shapes {
		total += each.sum()
	}
	return strconv.Itoa(total)
}

//go:noinline
func length(of int) int { return of }

func useMake() string {
	a := make([]int, length(10))
	b := make([]*int, length(3), length(70))
	c := make([]byte, 0, length(100_000))
	d := make([][3]uint16, length(33))
	sink = [...]any{a, b, c, d}
	a[9], b[2], d[32][2] = 1, &a[9], 3
	return strconv.Itoa(len(a) + len(b) + cap(b) + cap(c) + len(d) + a[9] + *b[2] + int(d[32][2]))
}

func useAppend() string {
	var s []byte
	grown := 0
	for i := 0; i < 5000; i++ {
		before := cap(s)
		s = append(s, byte(i))
		if cap(s) != before {
			grown++
		}
	}
	sum := 0
	for i, each := range s {
		sum += i * int(each)
	}
	kept = s
	return strconv.Itoa(sum) + " " + strconv.Itoa(grown) + " " + strconv.Itoa(cap(s))
}

func useAppendPointers() string {
	values := [4]int{1, 2, 3, 4}
	var s []*int
	for i := 0; i < 600; i++ {
		s = append(s, &values[i%4])
	}
	s = append(s, s...)
	numbers = s
	sum := 0
	for _, p := range s {
		sum += *p
	}
	return strconv.Itoa(sum) + " " + strconv.Itoa(cap(s))
}

func useAppendStrings() string {
	words = nil
	for i := 0; i < 300; i++ {
		words = append(words, strconv.Itoa(i*i))
	}
	words = append(words[:10], words[200:]...)
	return words[5] + words[50] + words[len(words)-1]
}

func useAppendStructs() string {
	type entry struct {
		name  string
		value *int
		n     [3]byte
	}
	var entries []entry
	for i := 0; i < 77; i++ {
		entries = append(entries, entry{name: "e" + strconv.Itoa(i), value: escape(i), n: [3]byte{byte(i)}})
	}
	sink = entries
	sum := 0
	for i := range entries {
		sum += *entries[i].value + len(entries[i].name) + int(entries[i].n[0])
	}
	return strconv.Itoa(sum)
}

func useSliceCopy() string {
	from := []string{"a", "b", "c"}
	to := make([]string, len(from))
	copy(to, from)
	more := append([]string(nil), to...)
	sink = more
	numbered := append([]int{1, 2, 3}[:length(1)], 9, 8, 7)
	return strings.Join(more, "") + strconv.Itoa(len(numbered)) + strconv.Itoa(numbered[3])
}

//go:noinline
func counter(from int) (next func() int, reset func(int)) {
	n := from
	return func() int { n++; return n }, func(to int) { n = to }
}

func useClosure() string {
	next, reset := counter(10)
	a := next() + next()
	reset(100)
	total := 0
	var all []func(int) int
	for i := 0; i < 5; i++ {
		i := i
		all = append(all, func(x int) int { return x * i })
	}
	for _, each := range all {
		total += each(10)
	}
	return strconv.Itoa(a + next() + total)
}

func useMethodValue() string {
	p := &point{1, 2}
	move, sum := p.move, p.sum
	sink = [...]any{move, sum}
	move(10)
	return strconv.Itoa(sum()) + strconv.Itoa(p.sum()) // the receiver of sum was copied
}

func useMethodExpression() string {
	move, sum := (*point).move, point.sum
	return strconv.Itoa(sum(*move(&point{1, 1}, 5)))
}

//go:noinline
func join(a, b, c, d, e string) string { return a + "-" + b + "-" + c + "-" + d + "-" + e }

func useConcatenation() string {
	s := ""
	for i := 0; i < 26; i++ {
		s += string(rune('a' + i))
	}
	long := s + s
	long += long + strconv.Itoa(len(long))
	sink = long
	return join(s[:3], s[23:], strconv.Itoa(len(long)), long[len(long)-2:], "")
}

func useConversions() string {
	b := []byte("some bytes that are more than thirty-two of them")
	s := string(b)
	b[0] = 'S'
	short := []byte("ab")
	sink = short
	return string(b[:4]) + s[:4] + string(append(short, 'c')) + string(b[47:])
}

func useRunes() string {
	r := []rune("größer als ASCII: 世界")
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	n := 0
	for at, each := range string(r) {
		n += at * int(each)
	}
	return string(r) + strconv.Itoa(len(r)) + " " + strconv.Itoa(n) + string(rune(0x20ac))
}

//go:noinline
func boxed(i int, s string, p point, f float64, b []byte, small uint16) []any {
	return []any{i, s, p, f, b, small, nil, true, uint8(200), int32(-70000), [3]int{1, 2, 3}}
}

func useInterfaces() string {
	all := boxed(1<<40, "text", point{1, 2}, 2.5, []byte("xyz"), 60000)
	sink = all
	n := all[0].(int) + len(all[1].(string)) + all[2].(point).sum() + int(2*all[3].(float64)) + len(all[4].([]byte))
	n += int(all[5].(uint16)) + int(all[8].(uint8)) + int(all[9].(int32)) + all[10].([3]int)[2]
	_, isString := all[0].(string)
	return strconv.Itoa(n) + strconv.FormatBool(isString)
}

type shape interface {
	area() int
	name() string
}

type (
	square struct{ side int }
	oblong struct{ a, b int }
	nobody struct{}
)

func (s square) area() int   { return s.side * s.side }
func (square) name() string  { return "square" }
func (o *oblong) area() int  { return o.a * o.b }
func (*oblong) name() string { return "oblong" }
func (nobody) area() int     { return 0 }
func (nobody) name() string  { return "nobody" }

//go:noinline
func shapes(n int) []shape {
	return []shape{square{n}, &oblong{n, n + 1}, nobody{}, square{100 * n}}
}

func useMethods() string {
	total, names := 0, ""
	for _, each := range shapes(3) {
		total += each.area()
		names += each.name() + " "
	}
	return names + strconv.Itoa(total)
}

func kind(of any) string {
	switch value := of.(type) {
	case nil:
		return "nil"
	case int:
		return "int " + strconv.Itoa(value)
	case string:
		return "string " + value
	case square:
		return "square " + strconv.Itoa(value.side)
	case *oblong:
		return "oblong " + strconv.Itoa(value.b)
	case []byte, bool:
		return "one of two"
	case func() int:
		return "func " + strconv.Itoa(value())
	}
	return "other"
}

func useTypeSwitch() string {
	s := ""
	for _, each := range []any{nil, 5000, "x", square{2}, &oblong{1, 2}, []byte{1}, true, 1.5, func() int { return 7 }} {
		s += kind(each) + ","
	}
	return s
}

func useComparison() string {
	a, b := boxed(300, "abc", point{1, 2}, 1, nil, 999), boxed(300, "ab"+string(rune('c')), point{1, 2}, 1, nil, 999)
	s := ""
	for i := range a {
		if i != 4 { // a slice does not compare
			s += strconv.FormatBool(a[i] == b[i])[:1]
		}
	}
	var one, other shape = square{3}, square{4}
	return s + strconv.FormatBool(one == other)[:1] + strconv.FormatBool(one == shape(square{3}))[:1]
}

//go:noinline
func all(prefix string, of ...any) string {
	s := prefix
	for _, each := range of {
		s += " " + kind(each)
	}
	return s
}

func useVariadic() string {
	sink = sum(1, 2, 3)
	return all("of", 1000, "two", square{3}) + strconv.Itoa(sum(4, 5, 6)+sum())
}

//go:noinline
func sum(of ...int) int {
	total := 0
	for _, each := range of {
		total += each
	}
	return total
}

//go:noinline
func deferred(trace *[]string, name string) {
	*trace = append(*trace, "<"+name)
	defer func() { *trace = append(*trace, name+">") }()
	defer func(s string) { *trace = append(*trace, s) }(name + "!")
}

func useDefer() string {
	var trace []string
	deferred(&trace, "a")
	deferred(&trace, "b")
	return strings.Join(trace, " ")
}

type stack[T any] struct{ items []T }

func (s *stack[T]) push(item T) { s.items = append(s.items, item) }

func (s *stack[T]) pop() T {
	last := s.items[len(s.items)-1]
	s.items = s.items[:len(s.items)-1]
	return last
}

func mapped[A, B any](of []A, by func(A) B) []B {
	var made []B
	for _, each := range of {
		made = append(made, by(each))
	}
	return made
}

func useGenerics() string {
	var s stack[string]
	var n stack[*point]
	for i := 0; i < 20; i++ {
		s.push(strconv.Itoa(i))
		n.push(&point{i, i})
	}
	squares := mapped([]int{1, 2, 3}, func(i int) string { return strconv.Itoa(i * i) })
	return s.pop() + s.pop() + strconv.Itoa(n.pop().sum()) + strings.Join(squares, "+")
}

type node struct {
	left, right *node
	key         uint32
	text        string
}

func (n *node) insert(key uint32) *node {
	if n == nil {
		return &node{key: key, text: strconv.Itoa(int(key % 1000))}
	}
	if key < n.key {
		n.left = n.left.insert(key)
	} else {
		n.right = n.right.insert(key)
	}
	return n
}

func (n *node) walk(visit func(*node)) {
	if n != nil {
		n.left.walk(visit)
		visit(n)
		n.right.walk(visit)
	}
}

func useTree() string {
	var root *node
	r := random(7)
	for i := 0; i < 500; i++ {
		root = root.insert(r.next())
	}
	count, last, ordered, length := 0, uint32(0), true, 0
	root.walk(func(n *node) {
		ordered = ordered && last <= n.key
		last = n.key
		count++
		length += len(n.text)
	})
	return strconv.Itoa(count) + strconv.FormatBool(ordered) + strconv.Itoa(length)
}

type link struct {
	next  *link
	value any
}

func useList() string {
	var head *link
	for i := 0; i < 100; i++ {
		if i%2 == 0 {
			head = &link{head, i}
		} else {
			head = &link{head, "s" + strconv.Itoa(i)}
		}
	}
	n, length := 0, 0
	for l := head; l != nil; l = l.next {
		switch value := l.value.(type) {
		case int:
			n += value
		case string:
			length += len(value)
		}
	}
	return strconv.Itoa(n) + " " + strconv.Itoa(length)
}

type failure struct {
	code  int
	cause error
}

func (f *failure) Error() string { return "failure " + strconv.Itoa(f.code) + ": " + f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

//go:noinline
func fails(code int) error { return &failure{code, errors.New("cause " + strconv.Itoa(code))} }

func useErrors() string {
	err := fails(5)
	f, ok := err.(*failure)
	return err.Error() + strconv.FormatBool(ok) + strconv.Itoa(f.code) + f.Unwrap().Error()
}

func useStrconv() string {
	n, err := strconv.Atoi("12345")
	_, bad := strconv.Atoi("12x")
	return strconv.Itoa(n) + strconv.FormatBool(err == nil) + strconv.Quote("tab\t") + strconv.FormatUint(1<<63, 16) +
		strconv.FormatBool(bad != nil) + strconv.FormatFloat(3.25, 'f', 3, 64)
}

func useBuilder() string {
	var b strings.Builder
	for i := 0; i < 300; i++ {
		b.WriteString(strconv.Itoa(i))
		b.WriteByte(' ')
		b.WriteRune('é')
	}
	s := b.String()
	return strconv.Itoa(len(s)) + s[len(s)-6:]
}

func useStrings() string {
	parts := strings.Split("a,b,,c,d", ",")
	return strings.Repeat("ab", 20) + strings.ToUpper("shout") + strconv.Itoa(len(parts)) +
		strings.Replace("aXbXc", "X", "--", -1) + strings.Join(strings.Fields(" x  y z "), "|")
}

func useSorting() string {
	r := random(99)
	all := make([]string, 0, 50)
	for i := 0; i < 50; i++ {
		word := strconv.Itoa(int(r.next() % 1000))
		at := 0
		for at < len(all) && all[at] < word {
			at++
		}
		all = append(all, "")
		copy(all[at+1:], all[at:])
		all[at] = word
	}
	return all[0] + " " + all[25] + " " + all[49]
}

// A generator of numbers that look random: xorshift32.
type generator uint32

func random(seed uint32) *generator {
	g := generator(seed)
	return &g
}

func (g *generator) next() uint32 {
	x := *g
	x ^= x << 13
	x ^= x >> 17
	x ^= x << 5
	*g = x
	return uint32(x)
}

// A block of memory and the byte all of it was filled with.
type block struct {
	bytes []byte
	fill  byte
}

// useRandomSizes asks for blocks of many sizes and checks each: zero when it is handed out, aligned
// as its size lets expect, and at the end as it was filled, so that none shares a byte with another.
func useRandomSizes() string {
	r := random(2026)
	var blocks []block
	total, faults := 0, 0
	for i := 0; i < 700; i++ {
		size := int(r.next() % 64)
		if i%4 == 0 {
			size = int(r.next() % 3000)
		}
		if i%50 == 0 {
			size = int(r.next() % 40_000)
		}
		b := block{make([]byte, size), byte(i)}
		for _, each := range b.bytes {
			if each != 0 {
				faults++
			}
		}
		if size > 0 && uintptr(unsafe.Pointer(&b.bytes[0]))%alignment(size) != 0 {
			faults++
		}
		for at := range b.bytes {
			b.bytes[at] = b.fill
		}
		total += size
		blocks = append(blocks, b)
	}
	for _, b := range blocks {
		for _, each := range b.bytes {
			if each != b.fill {
				faults++
			}
		}
	}
	return strconv.Itoa(len(blocks)) + " blocks of " + strconv.Itoa(total) + " bytes, " + strconv.Itoa(faults) + " faults"
}

// alignment is what any value of so many bytes can need: 8 at most.
func alignment(size int) uintptr {
	for a := 8; a > 1; a /= 2 {
		if size%a == 0 {
			return uintptr(a)
		}
	}
	return 1
}
