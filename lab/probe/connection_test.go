package probe

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echoing serves one connection by a function that is given it after the byte of its mode.
func echoing(t *testing.T, with func(net.Conn)) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it was only listened on
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }() // what the client read counts
		if _, err := io.CopyN(io.Discard, c, 1); err == nil {
			with(c)
		}
	}()
	return l.Addr().String()
}

// TestConnectionThatPauses: everything comes back, and the time is told in which nothing did.
func TestConnectionThatPauses(t *testing.T) {
	addr := echoing(t, func(c net.Conn) {
		_, _ = io.CopyN(c, c, 640)
		time.Sleep(silence * 3 / 2)
		_, _ = io.Copy(c, c)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*silence)
	defer cancel()
	got, err := MeasureConnection(ctx, addr, 5*time.Millisecond, 0, 64)
	if err != nil || got.Lost != 0 || got.Sent < 20 || len(got.Silences) == 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestConnectionThatBreaks is an error, whenever it breaks.
func TestConnectionThatBreaks(t *testing.T) {
	for what, with := range map[string]func(net.Conn){
		"at once":            func(net.Conn) {},
		"in the middle":      func(c net.Conn) { _, _ = io.CopyN(c, c, 640) },
		"without an echo":    func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"within one message": func(c net.Conn) { _, _ = io.CopyN(c, c, 100) },
	} {
		got, err := MeasureConnection(t.Context(), echoing(t, with), 5*time.Millisecond, 100*time.Millisecond, 64)
		if err == nil || !strings.Contains(err.Error(), "broke") {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	if _, err := MeasureConnection(t.Context(), "127.0.0.1:1", 0, 0, 64); err == nil {
		t.Error("a message every 0 s was accepted")
	}
}
