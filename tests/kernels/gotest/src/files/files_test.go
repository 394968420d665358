// Package files has tests of files: what lies beside them, and what a program can make of its own.
package files

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsBeside(t *testing.T) {
	for name, text := range map[string]string{
		"beside.txt":                   "what lies beside the test\n",
		"testdata/deep/deeper/one.txt": "deep\n",
		"testdata/nothing":             "",
		"../testdata/shared.txt":       "shared\n",
		"testdata/long.txt":            strings.Repeat("x", 10_000),
	} {
		if found := read(t, name); found != text {
			t.Errorf("%s is %.40q, of %d bytes", name, found, len(found))
		}
	}
	var found []string
	err := filepath.WalkDir("testdata", func(path string, _ fs.DirEntry, err error) error {
		found = append(found, path)
		return err
	})
	if said := strings.Join(found, " "); err != nil || said != "testdata testdata/deep testdata/deep/deeper "+
		"testdata/deep/deeper/one.txt testdata/empty testdata/empty/.keep testdata/long.txt testdata/nothing" {
		t.Error(err, said)
	}
	folder, err := os.Getwd()
	if err != nil || !strings.HasSuffix(folder, "/files") || folder != os.Getenv("PWD") {
		t.Error(folder, err, os.Getenv("PWD"))
	}
}

func TestErrors(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "file"), "x")
	for what, provoke := range map[string]func() error{
		"missing":          func() error { _, err := os.Open("missing"); return err },
		"not a directory":  func() error { _, err := os.ReadFile("beside.txt/more"); return err },
		"is a directory":   func() error { return os.WriteFile(folder, nil, 0o644) },
		"file exists":      func() error { return os.Mkdir(filepath.Join(folder, "file"), 0o755) },
		"not empty":        func() error { return os.Remove(folder) },
		"too long":         func() error { _, err := os.Stat(strings.Repeat("n", 256)); return err },
		"bad file":         func() error { f, _ := os.Open("beside.txt"); _, err := f.Write([]byte("x")); return err },
		"invalid argument": func() error { f, _ := os.Open("beside.txt"); _, err := f.Seek(-1, 0); return err },
	} {
		err := provoke()
		want := what
		if what == "missing" {
			want = "no such file"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.OpenFile("beside.txt", os.O_CREATE|os.O_EXCL, 0o644); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
}

func TestOwnFiles(t *testing.T) {
	folder := t.TempDir()
	name := filepath.Join(folder, "large")
	data := bytes.Repeat([]byte("0123456789abcdef"), 300_000) // more pages than one page has addresses of
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := read(t, name); found != string(data) {
		t.Error("what was written is not what is read", len(found))
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	part := make([]byte, 16)
	if _, err := file.ReadAt(part, 4096*512-8); err != nil || string(part) != "89abcdef01234567" {
		t.Error(string(part), err)
	}
	if _, err := file.WriteAt([]byte("over"), 4094); err != nil {
		t.Error(err)
	}
	if err := file.Truncate(4097); err != nil {
		t.Error(err)
	}
	if err := file.Truncate(9000); err != nil {
		t.Error(err)
	}
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil || end != 9000 {
		t.Error(end, err)
	}
	found := read(t, name)
	if len(found) != 9000 || found[4090:4097] != "abcdove" || strings.Trim(found[4097:], "\x00") != "" {
		t.Errorf("%d %q", len(found), found[4080:4110])
	}
	info, err := file.Stat()
	if err != nil || info.Size() != 9000 || info.Mode() != 0o600 || time.Since(info.ModTime()) > time.Minute {
		t.Error(info, err)
	}
}

func TestAppendingAndCopies(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	for _, text := range []string{"one ", "two ", "three"} {
		file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(text); err != nil {
			t.Error(err)
		}
		file.Close()
	}
	if found := read(t, name); found != "one two three" {
		t.Error(found)
	}
	from, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(name + ".copy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Error(err)
	}
	to.Close()
	if found := read(t, name+".copy"); found != "one two three" {
		t.Error(found)
	}
	when := time.Unix(1_000_000_000, 5)
	if err := os.Chtimes(name, when, when); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(name); err != nil || !info.ModTime().Equal(when) {
		t.Error(info, err)
	}
}

func TestFolders(t *testing.T) {
	folder := t.TempDir()
	deep := filepath.Join(folder, "a/b/c")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	var names []string
	for number := 0; number < 300; number++ {
		name := strings.Repeat("n", number%50+1) + "-" + time.Duration(number).String()
		names = append(names, name)
		write(t, filepath.Join(deep, name), name)
	}
	sort.Strings(names)
	entries, err := os.ReadDir(deep)
	if err != nil || len(entries) != len(names) {
		t.Fatal(len(entries), err)
	}
	for at, entry := range entries {
		if entry.Name() != names[at] || entry.IsDir() {
			t.Error(entry, names[at])
		}
	}
	if err := os.Rename(filepath.Join(folder, "a/b"), filepath.Join(folder, "moved")); err != nil {
		t.Error(err)
	}
	if found := read(t, filepath.Join(folder, "moved/c", names[7])); found != names[7] {
		t.Error(found)
	}
	if err := os.Rename(folder, filepath.Join(folder, "moved/into-itself")); err == nil {
		t.Error("a folder was moved into itself")
	}
	if err := os.RemoveAll(filepath.Join(folder, "moved")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "moved")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRemovedWhileOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "gone")
	write(t, name, "still here")
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := os.Remove(name); err != nil {
		t.Error(err)
	}
	write(t, name, "another")
	data, err := io.ReadAll(file)
	if err != nil || string(data) != "still here" {
		t.Error(string(data), err)
	}
}

// TestNothingIsLeft makes and removes more than there is RAM for at once.
func TestNothingIsLeft(t *testing.T) {
	name := filepath.Join(t.TempDir(), "large")
	data := make([]byte, 8<<20)
	for round := 0; round < 40; round++ {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(round, err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}
