package underlay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/underlay"
)

// TestSilentStreamsKeepNobodyOut: however far they go before they fall silent, wherever
// they come from, and while those who are dropped come again.
func TestSilentStreamsKeepNobodyOut(t *testing.T) {
	preface := func(kind byte) []byte { return []byte{'W', 0xf7, 1, kind} }
	for _, c := range []struct {
		name string
		from string // 127.0.0.1 is where the one who asks is, too
		says []byte
	}{
		{"nothing", "127.0.0.1", nil},
		{"nothing, from elsewhere", "127.0.0.2", nil},
		{"half a preface", "127.0.0.2", preface('r')[:2]},
		{"half a request", "127.0.0.1", append(preface(underlay.KindRequest), 0, 0, 1, 0, 1)},
		{"the kind of a package", "127.0.0.1", preface(underlay.KindLedger)},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := open(t, underlay.Config{}), open(t, underlay.Config{})
			b.Handle("echo", func(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) { return body, nil })
			go takeAll(b.Stream(underlay.KindLedger))
			for range 600 {
				silent(t, c.from, b.Addr(), c.says)
			}
			for range 3 {
				insist(t, "a request", func(ctx context.Context) error {
					_, err := a.Call(ctx, b.Addr(), "echo", []byte("x"))
					return err
				})
				insist(t, "a stream", func(ctx context.Context) error { return answered(ctx, a, b.Addr()) })
			}
		})
	}
}

// insist asks as packages do: again, when a stream broke. On a machine with too much to do
// whoever asks may be silent, too.
func insist(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s among silent streams: %v", what, err)
		}
	}
}

// silent opens a stream that says something and then nothing, again and again.
func silent(t *testing.T, from string, to netip.AddrPort, says []byte) {
	ctx := t.Context()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	go func() {
		for ctx.Err() == nil {
			conn, err := dialer.DialContext(ctx, "tcp", to.String())
			if err != nil {
				continue
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			_, _ = conn.Write(says)
			_, _ = conn.Read(make([]byte, 1)) // until it is dropped
			stop()
			_ = conn.Close()
		}
	}()
}

// takeAll is a package that answers the first byte of each stream with the same.
func takeAll(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		go func() {
			defer conn.Close()
			b := make([]byte, 1)
			if _, err := io.ReadFull(conn, b); err == nil {
				_, _ = conn.Write(b)
			}
		}()
	}
}

// answered opens a stream to takeAll and speaks.
func answered(ctx context.Context, a *underlay.Port, to netip.AddrPort) error {
	conn, err := a.Dial(ctx, underlay.KindLedger, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	b := []byte("y")
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, b)
	return err
}
