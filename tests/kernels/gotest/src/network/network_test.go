// Package network has tests of the one network there is: the machine's with itself.
package network

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// pair is the two ends of a connection.
func pair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	return connected(t, listen(t))
}

// connected is the two ends of a connection to listener.
func connected(t *testing.T, listener net.Listener) (net.Conn, net.Conn) {
	t.Helper()
	one, err := net.Dial(listener.Addr().Network(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Close(); other.Close() })
	return one, other
}

// unixPair is the two ends of a connection by a path, of streams ("unix") or packets ("unixpacket").
func unixPair(t *testing.T, kind string) (*net.UnixConn, *net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen(kind, path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	one, other := connected(t, listener)
	return one.(*net.UnixConn), other.(*net.UnixConn), path
}

func TestUnixStreams(t *testing.T) {
	one, other, path := unixPair(t, "unix")
	if address := one.RemoteAddr().String(); address != path || other.LocalAddr().String() != path {
		t.Error(address, other.LocalAddr())
	}
	sent := bytes.Repeat([]byte("a stream "), 20_000)
	go func() {
		one.Write(sent)
		one.CloseWrite()
	}()
	if found, err := io.ReadAll(other); err != nil || !bytes.Equal(found, sent) {
		t.Error(len(found), err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the listener is closed, and its file is there:", err)
	}
}

func TestUnixPackets(t *testing.T) {
	one, other, _ := unixPair(t, "unixpacket")
	for _, size := range []int{1, 4094, 0, 100, 5} {
		if size > 0 { // one of nothing looks like the end
			if n, err := one.Write(bytes.Repeat([]byte{byte(size)}, size)); n != size || err != nil {
				t.Fatal(n, err)
			}
			found := make([]byte, 5000)
			n, err := other.Read(found)
			if n != size || err != nil || found[n-1] != byte(size) {
				t.Error(size, n, err)
			}
		}
	}
	if _, err := one.Write(make([]byte, 10<<20)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Error(err)
	}
	one.Write([]byte("first"))
	one.Write([]byte("second"))
	short := make([]byte, 3)
	if n, err := other.Read(short); n != 3 || err != nil || string(short) != "fir" {
		t.Error(n, err, short)
	}
	if n, err := other.Read(short); n != 3 || err != nil || string(short) != "sec" {
		t.Error("the rest of a packet is lost:", n, err, string(short))
	}
	go func() {
		for number := 0; number < 1000; number++ { // far more than a page holds
			one.Write(make([]byte, 1+number%97))
		}
		one.Close()
	}()
	for number := 0; number < 1000; number++ {
		if n, err := other.Read(make([]byte, 200)); n != 1+number%97 || err != nil {
			t.Fatal(number, n, err)
		}
	}
	if n, err := other.Read(short); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}

func TestUnixNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	for _, wanted := range []struct {
		name string
		err  error
	}{{path, syscall.ENOENT}, {"/dev/null", syscall.ECONNREFUSED}, {"@nobody", syscall.ECONNREFUSED}} {
		if _, err := net.Dial("unix", wanted.name); !errors.Is(err, wanted.err) {
			t.Error(wanted.name, err)
		}
	}
	for name, other := range map[string]error{path: syscall.EPROTOTYPE, "@no file's": syscall.ECONNREFUSED} {
		listener, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := net.Listen("unix", name); !errors.Is(err, syscall.EADDRINUSE) {
			t.Error(name, err)
		}
		if _, err := net.Dial("unixpacket", name); !errors.Is(err, other) {
			t.Error(name, err)
		}
		connection, err := net.Dial("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		connection.Close()
		listener.Close()
		if _, err := net.Dial("unix", name); err == nil {
			t.Error(name, "is gone and answers")
		}
	}
	if err := os.WriteFile(path, []byte("a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Listen("unix", path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
}

func TestAUnixSocketIsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if found, err := os.Stat(path); err != nil || found.Mode().Type() != os.ModeSocket {
		t.Error(found, err)
	}
	if _, err := os.Open(path); !errors.Is(err, syscall.ENXIO) {
		t.Error(err)
	}
	moved := path + ".moved"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if connection, err := net.Dial("unix", moved); err != nil {
		t.Error(err)
	} else {
		connection.Close()
	}
	listener.Close()
	if _, err := net.Dial("unix", moved); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("nobody listens any more:", err)
	}
	if err := os.Remove(moved); err != nil {
		t.Error(err)
	}
	for number := 0; number < 300; number++ { // more than there are sockets at a time
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(number, err)
		}
		listener.Close()
	}
}

func TestManyAtOnce(t *testing.T) {
	listener := listen(t)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				io.Copy(connection, connection)
			}()
		}
	}()
	var working sync.WaitGroup
	for number := 0; number < 12; number++ {
		working.Add(1)
		go func(number int) {
			defer working.Done()
			connection, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer connection.Close()
			sent := bytes.Repeat([]byte(fmt.Sprint(number, " ")), 20_000)
			go func() {
				connection.Write(sent)
				connection.(*net.TCPConn).CloseWrite()
			}()
			if found, err := io.ReadAll(connection); err != nil || !bytes.Equal(found, sent) {
				t.Error(number, len(found), err)
			}
		}(number)
	}
	working.Wait()
}

func TestAddresses(t *testing.T) {
	one, other := pair(t)
	if one.LocalAddr().String() != other.RemoteAddr().String() || one.RemoteAddr().String() != other.LocalAddr().String() {
		t.Error(one.LocalAddr(), one.RemoteAddr(), other.LocalAddr(), other.RemoteAddr())
	}
	if address := one.RemoteAddr().(*net.TCPAddr); !address.IP.IsLoopback() || address.Port == 0 {
		t.Error(address)
	}
}

func TestErrors(t *testing.T) {
	listener := listen(t)
	if _, err := net.Listen("tcp", listener.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	listener.Close()
	if _, err := net.Dial("tcp", listener.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

func TestEndsAndDeadlines(t *testing.T) {
	one, other := pair(t)
	one.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := one.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	one.SetReadDeadline(time.Time{})
	other.Write([]byte("last"))
	other.Close()
	if found, err := io.ReadAll(one); err != nil || string(found) != "last" {
		t.Errorf("%q %v", found, err)
	}
	for {
		if _, err := one.Write(make([]byte, 1000)); err != nil {
			break
		}
	}
}

func TestHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard, _ := io.ReadAll(r.Body)
		w.Write(heard)
	}))
	defer server.Close()
	said := strings.Repeat("what goes around comes around. ", 5000)
	answer, err := http.Post(server.URL, "text/plain", strings.NewReader(said))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if found, err := io.ReadAll(answer.Body); err != nil || string(found) != said {
		t.Error(len(found), err)
	}
}
