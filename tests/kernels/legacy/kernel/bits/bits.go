// Package bits packs and unpacks.
package bits

// Has tells whether a bit of value is set.
func Has(value uint64, bit uint) bool { return value>>bit&1 != 0 }

// Field is value, shifted.
func Field(value uint32, shift uint) uint32 { return value << shift }
