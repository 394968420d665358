package features

import (
	"sort"
	"strconv"
	"strings"
	"sync"
)

// What needs more of the runtime than memory: random numbers, locks, tables of methods made at run time.
var further = [...]feature{
	{"maps", useMaps},
	{"map of structs", useMapOfStructs},
	{"large map", useLargeMap},
	{"type assertion", useAssertion},
	{"sort.Slice", useSortSlice},
	{"sync", useSync},
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
