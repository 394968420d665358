package good

import (
	"fmt"
	"os"
	"testing"
)

func TestSum(t *testing.T) {
	for _, length := range []int{0, 1, 100} {
		t.Run(fmt.Sprint("of ", length), func(t *testing.T) {
			if sum := Sum(make([]int, length)...); sum != 0 {
				t.Errorf("a sum of zeros is %d", sum)
			}
		})
	}
}

func TestSkipped(t *testing.T) {
	t.Skip("not today")
}

func TestParallel(t *testing.T) {
	for part := 0; part < 3; part++ {
		t.Run("part", func(t *testing.T) { t.Parallel() })
	}
}

// TestWords writes what looks like a test's end, and leaves its last line open.
func TestWords(t *testing.T) {
	fmt.Println("--- PASS: TestNeverWas (0.00s)")
	fmt.Print("no end of line")
}

func TestWrong(t *testing.T) {
	if os.Getenv("WRONG") != "" {
		t.Error("as asked for")
	}
}

func FuzzSum(f *testing.F) {
	f.Add(1, 2)
	f.Fuzz(func(t *testing.T, one, other int) {
		if Sum(one, other) != one+other {
			t.Error("it cannot add")
		}
	})
}

func ExampleSum() {
	fmt.Println(Sum(1, 2, 3))
	// Output: 6
}

func BenchmarkSum(b *testing.B) {
	for turn := 0; turn < b.N; turn++ {
		Sum(1, 2, 3)
	}
}

func BenchmarkParts(b *testing.B) {
	b.Run("one", BenchmarkSum)
}
