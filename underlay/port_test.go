package underlay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

func open(t *testing.T, cfg underlay.Config) *underlay.Port {
	t.Helper()
	if !cfg.Listen.IsValid() {
		cfg.Listen = loopback
	}
	p, err := underlay.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// refused waits until the other end closes a stream, which it does after it has
// counted why, and answers what came before.
func refused(t *testing.T, conn net.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("a stream that nobody wants stays open")
	}
	return string(b) // any other error is a reset: fine
}

func TestStreamsReachTheListenerOfTheirKind(t *testing.T) {
	a, b := open(t, underlay.Config{}), open(t, underlay.Config{})
	gossip, ledger := b.Stream(underlay.KindGossip), b.Stream(underlay.KindLedger)
	for kind, l := range map[byte]net.Listener{underlay.KindGossip: gossip, underlay.KindLedger: ledger} {
		conn, err := a.Dial(within(t), kind, b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "for %c", kind); err != nil {
			t.Fatal(err)
		}
		got, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		text := make([]byte, 5)
		if _, err := io.ReadFull(got, text); err != nil || string(text) != fmt.Sprintf("for %c", kind) {
			t.Errorf("kind %c read %q, %v", kind, text, err)
		}
	}
	if l := b.Stream(underlay.KindGossip); l != gossip {
		t.Error("asking for the same kind twice gave two listeners")
	}
}

func TestAClosedStreamListenerCanBeAskedForAgain(t *testing.T) {
	p := open(t, underlay.Config{})
	first := p.Stream(underlay.KindLedger)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
	second := p.Stream(underlay.KindLedger)
	conn, err := p.Dial(within(t), underlay.KindLedger, p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := second.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = got.Close()
}

func TestDatagramsShareThePortNumber(t *testing.T) {
	a, b := open(t, underlay.Config{}), open(t, underlay.Config{})
	if got := b.Packets().LocalAddr(); got != b.Addr() {
		t.Errorf("datagrams arrive on %s, streams on %s", got, b.Addr())
	}
	if _, err := a.Packets().WriteTo([]byte("hello"), b.Addr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, from, err := b.Packets().ReadFrom(buf)
	if err != nil || string(buf[:n]) != "hello" || from != a.Addr() {
		t.Errorf("got %q from %s, %v", buf[:n], from, err)
	}
	if _, err := a.Packets().WriteTo(make([]byte, underlay.MaxDatagram+1), b.Addr()); err == nil {
		t.Error("a datagram over the limit was sent")
	}
}

func TestGarbageIsRefusedCountedAndLoggedSparsely(t *testing.T) {
	var log syncBuffer
	p := open(t, underlay.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	ledger := p.Stream(underlay.KindLedger)
	garbage := []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x01\x02\x03", "W", "", "\xf4\x04weft", "W\xf7\x02l", "\x16\x03\x01\x02"}
	for _, g := range garbage {
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, g)
		_ = conn.(*net.TCPConn).CloseWrite()
		if b := refused(t, conn); b != "" {
			t.Errorf("%q was answered %q", g, b)
		}
		_ = conn.Close()
	}
	conn, err := p.Dial(within(t), 'x', p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if b := refused(t, conn); b != "" {
		t.Errorf("a kind that nobody serves was answered %q", b)
	}
	if s := p.Stats(); s.Garbage != uint64(len(garbage)) || s.Unserved != 1 {
		t.Errorf("counted %+v", s)
	}
	if err := p.Close(); err != nil { // waits for those who log
		t.Error(err)
	}
	if n := strings.Count(log.String(), "a stream was refused"); n != 1 {
		t.Errorf("%d log lines for %d refusals in an instant, want 1:\n%s", n, len(garbage)+1, log.String())
	}
	_ = ledger.Close()
}

func TestTakenPortNamesTheSetting(t *testing.T) {
	p := open(t, underlay.Config{})
	_, err := underlay.Open(underlay.Config{Listen: p.Addr()})
	if err == nil || !strings.Contains(err.Error(), "WEFT_PORT") || !strings.Contains(err.Error(), fmt.Sprint(p.Addr().Port())) {
		t.Errorf("got %v, want the port and the setting", err)
	}
	_, err = underlay.Open(underlay.Config{Listen: netip.MustParseAddrPort("192.0.2.1:0")})
	if err == nil || !strings.Contains(err.Error(), "WEFT_ADVERTISE") {
		t.Errorf("got %v, want the setting for a foreign address", err)
	}
	if _, err := underlay.Open(underlay.Config{}); err == nil {
		t.Error("listened without an address")
	}
}

func TestRequests(t *testing.T) {
	a, b := open(t, underlay.Config{}), open(t, underlay.Config{})
	refusal := netmap.Refuse(netmap.Exhausted, "nothing left in 10.40.0.0/24; host-b holds 3 blocks")
	b.Handle("echo", func(_ context.Context, from netip.AddrPort, body []byte) ([]byte, error) {
		if from.Addr() != a.Addr().Addr() {
			t.Errorf("request from %s", from)
		}
		return body, nil
	})
	b.Handle("refuse", func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
		return nil, fmt.Errorf("ledger: %w", refusal)
	})
	b.Handle("fail", func(context.Context, netip.AddrPort, []byte) ([]byte, error) { return nil, errors.New("disk full") })
	b.Handle("panic", func(context.Context, netip.AddrPort, []byte) ([]byte, error) { panic("bug") })
	b.Handle("gone", func(context.Context, netip.AddrPort, []byte) ([]byte, error) { return nil, nil })
	b.Handle("gone", nil)

	for _, size := range []int{0, 1, 70_000, underlay.MaxBody} {
		body := bytes.Repeat([]byte{7}, size)
		got, err := a.Call(within(t), b.Addr(), "echo", body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("echo of %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
	_, err := a.Call(within(t), b.Addr(), "refuse", nil)
	var got *netmap.Refusal
	if !errors.As(err, &got) || *got != *refusal {
		t.Errorf("a refusal arrived as %v", err)
	}
	for name, want := range map[string]string{"fail": "disk full", "panic": "its log says where", "gone": "not served"} {
		_, err := a.Call(within(t), b.Addr(), name, nil)
		var remote *underlay.RemoteError
		if !errors.As(err, &remote) || !strings.Contains(remote.Text, want) {
			t.Errorf("%s: got %v, want a remote error with %q", name, err, want)
		}
	}
	if s := b.Stats(); s.Requests != 8 || s.Failed != 4 {
		t.Errorf("counted %+v", s)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	a, b := open(t, underlay.Config{}), open(t, underlay.Config{})
	ended := make(chan struct{})
	b.Handle("wait", func(ctx context.Context, _ netip.AddrPort, _ []byte) ([]byte, error) {
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := a.Call(ctx, b.Addr(), "wait", nil)
	if err == nil || !strings.Contains(err.Error(), b.Addr().String()) {
		t.Errorf("got %v, want an error that names the host", err)
	}
	select { // the handler hears of the caller's deadline
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the handler outlives its caller")
	}
}

func TestCallToNobody(t *testing.T) {
	a, b := open(t, underlay.Config{}), open(t, underlay.Config{})
	addr := b.Addr()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Call(within(t), addr, "x", nil); err == nil || !strings.Contains(err.Error(), addr.String()) {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsEveryWait(t *testing.T) {
	p := open(t, underlay.Config{})
	p.Handle("wait", func(ctx context.Context, _ netip.AddrPort, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ledger := p.Stream(underlay.KindLedger)
	silent, err := net.Dial("tcp", p.Addr().String()) // never shows a preface
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var waits sync.WaitGroup
	waits.Go(func() { _, _ = ledger.Accept() })
	waits.Go(func() { _, _, _ = p.Packets().ReadFrom(make([]byte, 1)) })
	waits.Go(func() { _, _ = p.Call(context.WithoutCancel(t.Context()), p.Addr(), "wait", nil) })
	start := time.Now()
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	waits.Wait()
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %s", d)
	}
	if _, err := p.Stream('z').Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener of a closed port accepts: %v", err)
	}
}

func TestConcurrentCalls(t *testing.T) {
	a, b := open(t, underlay.Config{}), open(t, underlay.Config{})
	b.Handle("echo", func(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) { return body, nil })
	var calls sync.WaitGroup
	for i := range 200 {
		calls.Go(func() {
			want := fmt.Sprint(i)
			if got, err := a.Call(within(t), b.Addr(), "echo", []byte(want)); err != nil || string(got) != want {
				t.Errorf("call %d: %q, %v", i, got, err)
			}
		})
	}
	calls.Wait()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestDatagramsComeFromTheSource, by which others know this host, and not from the address that the kernel would choose.
func TestDatagramsComeFromTheSource(t *testing.T) {
	for _, c := range []struct{ listen, source, to string }{
		{"0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"},
		{"[::]:0", "::1", "[::1]:0"},
		{"0.0.0.0:0", "192.0.2.77", "127.0.0.1:0"}, // an address that the host has no more
	} {
		source := netip.MustParseAddr(c.source)
		from := open(t, underlay.Config{Listen: netip.MustParseAddrPort(c.listen), Source: source})
		to := open(t, underlay.Config{Listen: netip.MustParseAddrPort(c.to)})
		if _, err := from.Packets().WriteTo([]byte("hello"), to.Addr()); err != nil {
			t.Fatal(err)
		}
		_, at, err := to.Packets().ReadFrom(make([]byte, 16))
		if source.String() == "192.0.2.77" {
			source = netip.MustParseAddr("127.0.0.1")
		}
		if err != nil || at != netip.AddrPortFrom(source, from.Addr().Port()) {
			t.Errorf("a datagram of %s comes from %s (%v)", c.source, at, err)
		}
	}
}
