package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// again is a command of this very program that runs one of the parts below.
func again(part string, arguments ...string) *exec.Cmd {
	path, err := os.Executable()
	must(err == nil && path == os.Args[0], "os.Executable", path, err)
	return exec.Command(path, append([]string{part}, arguments...)...)
}

// child is what the program does when it was started by itself, by the first argument.
var child = map[string]func(){
	"child-tells": func() {
		folder, err := os.Getwd()
		must(err == nil, "Getwd", err)
		fmt.Printf("%q %s %d %s\n", os.Args[2:], os.Getenv("TOLD"), os.Getppid(), folder)
		fmt.Fprintln(os.Stderr, "to standard error")
	},
	"child-repeats": func() { io.Copy(os.Stdout, os.Stdin) },
	"child-exits":   func() { os.Exit(len(os.Args[2])) },
	"child-panics":  func() { panic("on purpose") },
	"child-faults":  func() { syscall.Kill(os.Getpid(), syscall.SIGSEGV); *(*int)(nil) = 0 },
	"child-waits":   func() { fmt.Println("ready"); time.Sleep(time.Hour) },
	"child-dies":    func() { signal.Reset(); syscall.Kill(os.Getpid(), syscall.SIGKILL) },
	"child-outlives": func() {
		other := again("child-late")
		other.Stdout = os.Stdout
		must(other.Start() == nil, "Start")
	},
	"child-late": func() {
		for os.Getppid() != 1 {
			time.Sleep(time.Millisecond)
		}
		fmt.Println("late, a child of", os.Getppid())
	},
	"child-becomes": func() {
		err := syscall.Exec(os.Args[0], []string{os.Args[0], "child-tells", "became"}, []string{"TOLD=anew"})
		panic(err)
	},
	"child-touches": func() { // more than there is: what is mapped in small parts need not be there until it is touched
		for {
			part, err := syscall.Mmap(-1, 0, 8<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
			must(err == nil, "Mmap", err)
			for at := 0; at < len(part); at += 4096 {
				part[at] = 1
			}
		}
	},
	"child-keeps": func() { // a variable as it was when the program began, and 8 MiB
		must(kept == "at first", "a variable", kept)
		kept = strings.Repeat("child ", 1<<20)
		fmt.Println(len(kept))
	},
}

var kept = string([]byte("at first"))

func init() {
	for name, do := range child {
		do := do // of each turn: Go 1.21
		parts[name] = func() { do(); os.Exit(0) }
	}
}

// processes has the program start itself again in each way a child can end.
func processes() {
	telling := again("child-tells", "one", "two words", "")
	telling.Env = append(os.Environ(), "TOLD=yes")
	must(os.MkdirAll("/tmp/there", 0o755) == nil, "MkdirAll")
	telling.Dir = "tmp/../tmp/there" // from the root, where the first process began
	var out, errors bytes.Buffer
	telling.Stdout, telling.Stderr = &out, &errors
	err := telling.Run()
	must(err == nil && out.String() == "[\"one\" \"two words\" \"\"] yes 1 /tmp/there\n", "told", err, out.String())
	must(errors.String() == "to standard error\n", "standard error", errors.String())

	long := strings.Repeat("through two pipes ", 5000)
	repeating := again("child-repeats")
	repeating.Stdin = strings.NewReader(long)
	got, err := repeating.Output()
	must(err == nil && string(got) == long, "standard input", err, len(got))

	for _, each := range []struct {
		part, argument string
		status         int
		signal         syscall.Signal
		said           string
	}{
		{"child-exits", "", 0, 0, ""},
		{"child-exits", "x", 1, 0, ""},
		{"child-exits", "xx", 2, 0, ""},
		{"child-panics", "", 2, 0, "panic: on purpose"},
		{"child-faults", "", 2, 0, "SIGSEGV"},
		{"child-dies", "", -1, syscall.SIGKILL, ""},
	} {
		command := again(each.part, each.argument)
		said, err := command.CombinedOutput()
		state := command.ProcessState
		status := state.Sys().(syscall.WaitStatus)
		must(strings.Contains(string(said), each.said), each.part, string(said))
		must(state.ExitCode() == each.status, each.part, err, state)
		must(status.Signaled() == (each.signal != 0), each.part, state)
		must(each.signal == 0 || status.Signal() == each.signal, each.part, state)
	}

	kept = "the parent's"
	got, err = again("child-keeps").Output()
	must(err == nil && string(got) == "6291456\n" && kept == "the parent's", "memory", err, string(got), kept)

	got, err = again("child-becomes").Output()
	must(err == nil && string(got) == "[\"became\"] anew 1 /\n", "syscall.Exec", err, string(got))
}

// Numbers of system calls that package syscall has no names for: include/uapi/asm-generic/unistd.h.
const (
	pidfdSendSignal = 424
	pidfdOpen       = 434
)

// together has two children run at once, and ends both.
func together() {
	var waiting [2]*exec.Cmd
	for at := range waiting {
		waiting[at] = again("child-waits")
		out, err := waiting[at].StdoutPipe()
		must(err == nil && waiting[at].Start() == nil, "Start", err)
		ready := make([]byte, 6)
		_, err = io.ReadFull(out, ready)
		must(err == nil && string(ready) == "ready\n", "both run", err, string(ready))
	}
	must(waiting[0].Process.Pid != waiting[1].Process.Pid, "processes")
	must(waiting[0].Process.Kill() == nil, "Kill")
	err := waiting[0].Wait()
	must(err != nil && err.Error() == "signal: killed", "killed", err)
	must(waiting[1].Process.Signal(syscall.Signal(0)) == nil, "the other lives")
	descriptor, _, failed := syscall.Syscall(pidfdOpen, uintptr(waiting[1].Process.Pid), 0, 0)
	must(failed == 0, "pidfd_open", failed)
	_, _, failed = syscall.Syscall6(pidfdSendSignal, descriptor, uintptr(syscall.SIGTERM), 0, 0, 0, 0)
	must(failed == 0, "pidfd_send_signal", failed)
	syscall.Close(int(descriptor))
	_, _, failed = syscall.Syscall(pidfdOpen, 1<<20, 0, 0)
	must(failed == syscall.ESRCH, "pidfd_open of nobody", failed)
	err = waiting[1].Wait()
	must(err != nil && err.Error() == "signal: terminated", "terminated", err)
	must(errors.Is(waiting[1].Process.Kill(), os.ErrProcessDone), "done")

	limited, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	err = exec.CommandContext(limited, os.Args[0], "child-waits").Run()
	must(err != nil && err.Error() == "signal: killed", "of a context", err)
}

// outlived has a child's child end after the child: it is the first process's then, which can wait for it.
func outlived() {
	got, err := again("child-outlives").Output()
	must(err == nil && string(got) == "late, a child of 1\n", "outlived", err, string(got))
	var status syscall.WaitStatus
	id, err := syscall.Wait4(-1, &status, 0, nil)
	must(err == nil && id > 1 && status.Exited() && status.ExitStatus() == 0, "adopted", id, err, status)
	_, err = syscall.Wait4(-1, &status, 0, nil)
	must(err == syscall.ECHILD, "no other", err)
}

// nowhere has it try to start what is no program.
func nowhere() {
	must(os.WriteFile("/tmp/copy", []byte("no program"), 0o755) == nil, "WriteFile")
	must(os.WriteFile("/tmp/text", nil, 0o644) == nil, "WriteFile")
	for path, wanted := range map[string]error{
		"/tmp/none": syscall.ENOENT, "/tmp": syscall.EACCES, "/tmp/text": syscall.EACCES, "/tmp/copy": syscall.ENOEXEC,
	} {
		_, err := os.StartProcess(path, []string{path}, &os.ProcAttr{})
		must(errors.Is(err, wanted), path, err)
	}
	_, err := os.OpenFile(os.Args[0], os.O_WRONLY, 0)
	must(errors.Is(err, syscall.ETXTBSY), "writing to it", err)
	started, err := os.StartProcess("/proc/self/exe", []string{"", "child-exits", "x"}, &os.ProcAttr{})
	must(err == nil, "/proc/self/exe", err)
	state, err := started.Wait()
	must(err == nil && state.ExitCode() == 1, "/proc/self/exe", state, err)
}

// many starts itself over and over: no child may leave as much as a page of RAM behind.
func many() {
	const first, all = 50, 200 // until then Go's own heap grows
	before := uint64(0)
	for count := 0; count < all; count++ {
		if count == first {
			before = leftOver()
		}
		err := again("child-exits", "").Run()
		must(err == nil, "a child", count, err)
	}
	after := leftOver()
	must(after+(all-first)*uint64(os.Getpagesize())/2 > before, "RAM", before, after)
}

// leftOver is how many bytes of RAM nothing uses.
func leftOver() uint64 {
	debug.FreeOSMemory()
	var told syscall.Sysinfo_t
	must(syscall.Sysinfo(&told) == nil, "Sysinfo")
	return told.Freeram * uint64(told.Unit)
}

// becomes has the first process start anew, with other arguments and another environment; so do its children then.
func becomes() {
	kept = "of the one before"
	panic(syscall.Exec(os.Args[0], []string{os.Args[0], "became", "anew"}, []string{"GREETING=changed"}))
}

func became() {
	must(kept == "at first", "a variable", kept)
	fmt.Printf("%q %q %d\n", os.Args[2:], os.Environ(), os.Getpid())
	processes()
}

// leaves ends while a child of its runs.
func leaves() {
	must(again("child-waits").Start() == nil, "Start")
	fmt.Println("left a child behind")
	os.Exit(3)
}

// greedy has a child that wants all the RAM there is, and then one that gets some of it.
func greedy() {
	err := again("child-touches").Run()
	must(err != nil && err.Error() == "signal: killed", "by touching", err)
	got, err := again("child-keeps").Output()
	must(err == nil && string(got) == "6291456\n", "another", err, string(got))
}

// forks makes a process that would have a copy of all memory, which Go does for namespaces only.
func forks() {
	_, _, failed := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
	must(failed == syscall.ENOSYS, "clone", failed)
}
