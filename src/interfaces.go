package main

import "unsafe"

// An instrument is something with methods to call without knowing its type.
type instrument interface {
	add(amount uint64)
	reading() uint64
}

// A counter adds what it is given.
type counter struct{ total uint64 }

func (c *counter) add(amount uint64) { c.total += amount }
func (c *counter) reading() uint64   { return c.total }

// A peak remembers the largest amount it was given, and a counter it tells of each.
type peak struct {
	highest uint64
	follows instrument
}

func (p *peak) add(amount uint64) {
	if amount > p.highest {
		p.highest = amount
	}
	if p.follows != nil {
		p.follows.add(amount)
	}
}
func (p *peak) reading() uint64 { return p.highest }

// Static objects to put into interfaces.
var (
	someCounter counter
	somePeak    peak
)

// Interfaces stored to: with methods, without, and one inside an array.
var (
	current instrument
	held    any
	panel   [2]instrument
)

// install stores an instrument in each place.
//
//go:noinline
func install(i instrument, index uint64) {
	current = i
	held = i
	panel[index&1] = i
}

// connect makes one instrument tell another.
//
//go:noinline
func connect(p *peak, follows instrument) {
	p.follows = follows
}

// checkInterfaces stores pointers through interfaces and uses what was stored: by
// method, by type, by the words of the interface.
func checkInterfaces() string {
	connect(&somePeak, &someCounter)
	install(&somePeak, 0)
	if fault := holdsFault(0, address(&somePeak)); fault != "" {
		return fault
	}
	use(7)
	use(5)
	if current.reading() != 7 || someCounter.reading() != 12 {
		return "a method was called on the wrong object"
	}
	if p, ok := held.(*peak); !ok || p != &somePeak {
		return "the type of a pointer stored was lost"
	}

	install(&someCounter, 1)
	if fault := holdsFault(1, address(&someCounter)); fault != "" {
		return fault
	}
	use(30)
	if someCounter.reading() != 42 || somePeak.reading() != 7 {
		return "a method was called on the wrong object after another was stored"
	}
	switch c := held.(type) {
	case *peak:
		return "the type of a pointer stored is still the one before"
	case *counter:
		if c.total != 42 {
			return "a pointer taken out of an interface is not the one stored"
		}
	default:
		return "a pointer stored has no known type"
	}
	if panel[0].reading() != 7 || panel[1].reading() != 42 {
		return "an array of interfaces does not hold both objects"
	}

	install(nil, 0)
	if fault := holdsFault(0, 0); fault != "" {
		return fault
	}
	return ""
}

// use calls a method of the instrument stored last.
//
//go:noinline
func use(amount uint64) {
	current.add(amount)
}

// holdsFault says which of the places install stores to does not have the object in
// memory. An interface is two words, its type or method table and the pointer; both are
// nil, or neither.
func holdsFault(index uint64, object uintptr) string {
	for _, place := range [...]unsafe.Pointer{
		unsafe.Pointer(&current), unsafe.Pointer(&held), unsafe.Pointer(&panel[index&1]),
	} {
		if storedWord(place, 1) != object {
			return "an interface does not hold the pointer stored"
		}
		if (storedWord(place, 0) == 0) != (object == 0) {
			return "an interface does not hold the type stored"
		}
	}
	return ""
}
