package features

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// What needs more of the runtime than memory: random numbers, locks, tables of methods made at run time, records of
// defers, pools, channels.
var further = [...]feature{
	{"maps", useMaps},
	{"map of structs", useMapOfStructs},
	{"large map", useLargeMap},
	{"type assertion", useAssertion},
	{"sort.Slice", useSortSlice},
	{"sync", useSync},
	{"defer in a loop", useDeferInLoop},
	{"defer of many", useDeferOfMany},
	{"recover of nothing", useRecoverOfNothing},
	{"channels", useChannels},
	{"select", useSelect},
	{"sync.Pool", usePool},
	{"sync.Map", useSyncMap},
	{"atomic.Value", useAtomicValue},
	{"fmt", useFmt},
	{"fmt of types", useFmtOfTypes},
	{"errors wrapped", useWrapped},
}

func more(print Printer) {
	for i := range further {
		print(further[i].name + ": " + further[i].use())
	}
}

func useMaps() string {
	counts := map[string]int{"b": 0}
	for _, word := range strings.Fields("a b a c b a d a b e f g h i j k") {
		counts[word]++
	}
	delete(counts, "c")
	_, there := counts["c"]
	words := make([]string, 0, len(counts))
	for word := range counts {
		words = append(words, word)
	}
	sort.Strings(words)
	return strings.Join(words, "") + strconv.Itoa(counts["a"]) + strconv.Itoa(counts["b"]) + strconv.FormatBool(there)
}

func useMapOfStructs() string {
	type key struct {
		name string
		at   point
	}
	grid := map[key]*point{}
	boxes := map[any][]string{}
	for i := 0; i < 40; i++ {
		grid[key{strconv.Itoa(i % 3), point{i, -i}}] = &point{i, i}
		boxes[i%5] = append(boxes[i%5], strconv.Itoa(i))
		boxes[strconv.Itoa(i%2)] = nil
	}
	return strconv.Itoa(grid[key{"1", point{7, -7}}].sum()) + boxes[3][2] + strconv.Itoa(len(grid)*100+len(boxes))
}

func useLargeMap() string {
	r := random(5)
	m := make(map[uint32]uint32, 10)
	for i := 0; i < 3000; i++ {
		m[r.next()%4096] += uint32(i)
	}
	for i := uint32(0); i < 2000; i++ {
		delete(m, i)
	}
	sum := uint32(0)
	for k, v := range m {
		sum += k*31 + v
	}
	return strconv.Itoa(len(m)) + " " + strconv.Itoa(int(sum))
}

type named interface{ name() string }

func useAssertion() string {
	s := ""
	for _, each := range []any{square{1}, &oblong{2, 3}, 5, nobody{}, "x"} {
		if n, ok := each.(named); ok {
			s += n.name()
		}
		switch value := each.(type) {
		case shape:
			s += strconv.Itoa(value.area())
		case error:
			s += value.Error()
		default:
			s += "-"
		}
	}
	return s
}

func useSortSlice() string {
	r := random(3)
	all := make([]point, 100)
	for i := range all {
		all[i] = point{int(r.next() % 1000), i}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].x < all[j].x || all[i].x == all[j].x && all[i].y < all[j].y })
	return strconv.Itoa(all[0].x) + " " + strconv.Itoa(all[50].x) + " " + strconv.Itoa(all[99].y)
}

func useSync() string {
	var lock sync.Mutex
	var once sync.Once
	n := 0
	for i := 0; i < 3; i++ {
		lock.Lock()
		once.Do(func() { n += 10 })
		n++
		lock.Unlock()
	}
	return strconv.Itoa(n)
}

// useDeferInLoop needs records: a defer outside of loops has its own in the frame.
func useDeferInLoop() string {
	s := ""
	func() {
		for i := 0; i < 5; i++ {
			defer func(i int) { s += strconv.Itoa(i) }(i)
		}
	}()
	return s
}

// useDeferOfMany has more at once than a p keeps the records of, and then takes them again.
func useDeferOfMany() string {
	sum, r := 0, random(11)
	for round := 0; round < 3; round++ {
		func() {
			for i := 0; i < 100; i++ {
				defer func(i int) { sum = sum*31 + i + int(r.next()%7) }(i)
			}
		}()
	}
	return strconv.Itoa(sum & 0xffffff)
}

func useRecoverOfNothing() string {
	s := ""
	func() {
		defer func() {
			if recover() == nil {
				s += "nothing"
			}
		}()
		s += "ran, "
	}()
	return s
}

func useChannels() string {
	lines := make(chan string, 3)
	lines <- "a"
	lines <- "b"
	first := <-lines
	lines <- "c"
	close(lines)
	for each := range lines {
		first += each
	}
	_, more := <-lines
	return first + strconv.FormatBool(more) + strconv.Itoa(cap(lines))
}

func useSelect() string {
	full, empty, s := make(chan int, 1), make(chan point), ""
	for i := 0; i < 3; i++ {
		select {
		case full <- i:
			s += "sent"
		case p := <-empty:
			s += strconv.Itoa(p.sum())
		default:
			s += ", full"
		}
	}
	select {
	case i := <-full:
		s += strconv.Itoa(i)
	case empty <- point{}:
	}
	select {
	case <-full:
	default:
		s += " empty"
	}
	return s
}

func usePool() string {
	made := 0
	pool := sync.Pool{New: func() any { made++; return &point{made, made} }}
	a, b := pool.Get().(*point), pool.Get().(*point)
	sum := a.sum() + b.sum()
	pool.Put(a) // which may be thrown away, and is where races are looked for
	c := pool.Get().(*point)
	return strconv.Itoa(sum) + strconv.FormatBool(c == a || c.x == 3)
}

func useSyncMap() string {
	var m sync.Map
	m.Store("a", 1)
	m.Store(2, "b")
	old, there := m.LoadOrStore("a", 3)
	m.Delete(2)
	n := 0
	m.Range(func(any, any) bool { n++; return true })
	return strconv.Itoa(old.(int)) + strconv.FormatBool(there) + strconv.Itoa(n)
}

func useAtomicValue() string {
	var v atomic.Value
	v.Store(point{1, 2})
	old := v.Swap(point{3, 4}).(point)
	return strconv.Itoa(old.sum()) + strconv.Itoa(v.Load().(point).sum())
}

func useFmt() string {
	return fmt.Sprintf("%d|%5d|%-4x|%08b|%6.3f|%g|%q|%s|%v|%t|%c|%U|%%", -42, 7, 255, 5, 3.14159, 1e21, "a\n", []byte("b"),
		nil, true, 'é', 'é')
}

func useFmtOfTypes() string {
	type pair struct {
		Name string
		At   *point
		any  []any
	}
	s := fmt.Sprintf("%v %+v %T", pair{"a", nil, []any{1, "b", 2.5}}, pair{Name: "c"}, pair{})
	s += fmt.Sprintf(" %v %d %v", map[string]int{"z": 1, "a": 2}, []int{3, 4}, [2]bool{true, false})
	return s + fmt.Sprint(" ", square{3}, " ", errors.New("e"), 1, 2)
}

func useWrapped() string {
	inner := errors.New("inner")
	outer := fmt.Errorf("outer: %w", inner)
	return outer.Error() + strconv.FormatBool(errors.Is(outer, inner)) + strconv.FormatBool(errors.Unwrap(outer) == inner)
}
