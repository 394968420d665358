package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"text/template"
	"time"
	"unsafe"
)

func libraries() {
	var filled bytes.Buffer
	err := template.Must(template.New("").Parse("{{range .}}<{{.}}>{{end}}")).Execute(&filled, []int{1, 2, 3})
	must(err == nil && filled.String() == "<1><2><3>", "text/template", err, filled.String())
	encoded, err := json.Marshal(map[string]any{"b": []string{"x"}, "a": 1.5})
	must(err == nil && string(encoded) == `{"a":1.5,"b":["x"]}`, "encoding/json", err, string(encoded))
	swapped := regexp.MustCompile(`(\w+)@(\w+)`).ReplaceAllString("me@here", "$2@$1")
	must(swapped == "here@me", "regexp", swapped)
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte("abc")))
	must(strings.HasPrefix(digest, "ba7816bf8f01cfea"), "crypto/sha256", digest) // FIPS 180-2, B.1
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	io.WriteString(writer, strings.Repeat("hello ", 10_000))
	writer.Close()
	reader, err := gzip.NewReader(&packed)
	must(err == nil, "compress/gzip", err)
	unpacked, err := io.ReadAll(reader)
	must(err == nil && len(unpacked) == 60_000, "compress/gzip", err, len(unpacked))
}

// times has time pass in each way Go can wait for it.
func times() {
	now := time.Now()
	must(now.Year() >= 2024, "the clock is not set", now)
	time.Sleep(20 * time.Millisecond)
	slept := time.Since(now)
	must(slept >= 20*time.Millisecond && slept < 5*time.Second, "slept", slept)
	began := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	for range [4]int{} {
		<-ticker.C
	}
	ticked := time.Since(began)
	must(ticked >= 20*time.Millisecond && ticked < 5*time.Second, "ticked", ticked)
	limited, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	<-limited.Done()
	must(errors.Is(limited.Err(), context.DeadlineExceeded), "context", limited.Err())
}

// preempted has a goroutine that never calls anything, and others that run all the same.
func preempted() {
	go func() {
		for {
		}
	}()
	time.Sleep(10 * time.Millisecond)
	runtime.GC()
}

func threads() {
	runtime.GOMAXPROCS(4)
	ended := make(chan bool)
	for range [20]int{} {
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			time.Sleep(time.Millisecond)
			ended <- true
		}()
	}
	for range [20]int{} {
		<-ended
	}
}

func pipes() {
	read, write, err := os.Pipe()
	must(err == nil, "os.Pipe", err)
	go func() {
		time.Sleep(time.Millisecond)
		write.Write(bytes.Repeat([]byte("through "), 2000)) // more than a pipe holds
		write.Close()
	}()
	got, err := io.ReadAll(read)
	must(err == nil && len(got) == 16_000, "through a pipe", err, len(got))
	_, err = os.Open("/etc/passwd")
	must(os.IsNotExist(err), "os.Open", err)
}

// unknown makes a system call that nobody serves.
func unknown() {
	_, _, failed := syscall.Syscall(syscall.SYS_INOTIFY_INIT1, 0, 0, 0)
	must(failed == syscall.ENOSYS, "socket", failed)
}

// wild stores to its own code, which is an error that cannot be recovered.
func wild() {
	entry := wild
	code := **(***uint32)(unsafe.Pointer(&entry))
	*code = 0
}

// input is what comes by standard input, counted and repeated.
func input() {
	lines := bufio.NewScanner(os.Stdin)
	count := 0
	for lines.Scan() {
		count++
		if count < 4 {
			fmt.Printf("%d: %s\n", count, lines.Text())
		}
	}
	fmt.Println(count, "lines")
}

// chance prints random bytes, which no two runs have in common.
func chance() {
	drawn := make([]byte, 10_000) // the system's, and not what crypto/rand makes of them
	count, _, failed := syscall.Syscall(syscall.SYS_GETRANDOM, uintptr(unsafe.Pointer(&drawn[0])), 10_000, 0)
	must(failed == 0 && count == 10_000, "getrandom", failed, count)
	seen := map[byte]int{}
	for _, each := range drawn {
		seen[each]++
	}
	must(len(seen) == 256, "values of a byte", len(seen))
	fmt.Printf("%x\n", drawn[:16])
}
