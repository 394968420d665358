// Package main is the first process of a Linux that is there to run other programs: one for each line of the file
// /commands. It prints what each says, and how it ended.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func main() {
	for folder, kind := range map[string]string{"/proc": "proc", "/dev": "devtmpfs", "/tmp": "tmpfs"} {
		os.MkdirAll(folder, 0o755)
		if err := syscall.Mount(kind, folder, kind, 0, ""); err != nil {
			fmt.Println(folder, err)
		}
	}
	commands, err := os.ReadFile("/commands")
	if err != nil {
		fmt.Println(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(commands)), "\n") {
		words := strings.Fields(line)
		said, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		fmt.Printf("%s%s ended: %v\n", said, words[0], err)
	}
}
