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
	listener := listen(t)
	one, err := net.Dial("tcp", listener.Addr().String())
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
