// Command native runs the features where Go has its own runtime.
package main

import (
	"fmt"

	"alloc/features"
)

func main() {
	features.Run(func(line string) { fmt.Println(line) })
}
