// Package good has tests that do what tests do, and no trouble.
package good

// Sum adds.
func Sum(numbers ...int) int {
	sum := 0
	for _, number := range numbers {
		sum += number
	}
	return sum
}
