package metal

// Counter is the count of the processor's generic timer, which the time of package time is made of.
func Counter() uint64

// Frequency is how often a second it counts.
func Frequency() uint64
