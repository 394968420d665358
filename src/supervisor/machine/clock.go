package machine

import "math/bits"

const second = 1_000_000_000 // nanoseconds

// A Clock converts the counter's count to time.
type Clock struct {
	frequency uint64
	perCount  uint64 // nanoseconds a count takes, times 1<<32
	perNano   uint64 // counts a nanosecond takes, times 1<<32
	epoch     uint64 // nanoseconds from 1970 to a count of 0
}

// NewClock is a clock of a counter of that frequency; it was count at seconds after 1970.
func NewClock(frequency, count, seconds uint64) Clock {
	clock := Clock{frequency: frequency, perCount: second << 32 / frequency, perNano: frequency << 32 / second}
	clock.epoch = seconds*second - clock.Nanoseconds(count)
	return clock
}

// Nanoseconds is how long it takes to count to count.
func (c *Clock) Nanoseconds(count uint64) uint64 {
	high, low := bits.Mul64(count, c.perCount)
	return high<<32 | low>>32
}

// Counts is how far is counted in that time, at least.
func (c *Clock) Counts(nanoseconds uint64) uint64 {
	high, low := bits.Mul64(nanoseconds, c.perNano)
	return (high<<32 | low>>32) + 1
}

// Wall is the time since 1970, in nanoseconds, when the counter is at count.
func (c *Clock) Wall(count uint64) uint64 {
	return c.epoch + c.Nanoseconds(count)
}
