package probe

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pair is a TCP connection of this process to itself.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestReadTakesWhatComesAndTheEnd(t *testing.T) {
	a, b := pair(t)
	buf := make([]byte, 10)
	if _, err := a.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n, err := read(b, buf); err != nil || string(buf[:n]) != "abc" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	a.Close()
	if n, err := read(b, buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d bytes, %v", n, err)
	}
}

func TestReadWaitsLongerThanTheKernelIsAsked(t *testing.T) {
	a, b := pair(t)
	late := time.AfterFunc(5*awaitMillis*time.Millisecond, func() { _, _ = a.Write([]byte("x")) })
	defer late.Stop()
	if n, err := read(b, make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestReadKeepsDeadlinesAndEndsWithClose(t *testing.T) {
	_, b := pair(t)
	if err := b.SetReadDeadline(time.Now().Add(3 * awaitMillis * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := read(b, make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %d bytes, %v", n, err)
	}
	if err := b.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	closing := time.AfterFunc(3*awaitMillis*time.Millisecond, func() { b.Close() })
	defer closing.Stop()
	if n, err := read(b, make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %d bytes, %v", n, err)
	}
	if n, err := read(b, make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("of a closed connection: %d bytes, %v", n, err)
	}
}

// A connection that is no socket of the kernel's is read as usual.
func TestReadOfAPipe(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_, _ = a.Write([]byte("ab"))
		a.Close()
	}()
	message := make([]byte, 2)
	if err := readFull(b, message); err != nil || string(message) != "ab" {
		t.Errorf("%q, %v", message, err)
	}
	if err := readFull(b, message); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}
