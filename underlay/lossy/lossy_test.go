package lossy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/underlay"
	"github.com/weftnet/weft/underlay/lossy"
)

var (
	a = netip.MustParseAddr("192.0.2.1")
	b = netip.MustParseAddr("192.0.2.2")
	c = netip.MustParseAddr("2001:db8::3")
)

const port = 7950

func at(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr, port) }

// stream is both ends of a stream from a to b.
func stream(t *testing.T, n *lossy.Net) (near, far net.Conn) {
	t.Helper()
	l, err := n.Host(b).Listen(at(b))
	if err != nil {
		t.Fatal(err)
	}
	near, err = n.Host(a).Dial(t.Context(), a, at(b))
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestDatagramsAreLostDoubledAndReordered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(1, lossy.Link{Loss: 0.2, Double: 0.1, Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
		from, err := n.Host(a).ListenPacket(at(a), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		to, err := n.Host(b).ListenPacket(at(b), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if _, err := from.WriteTo([]byte{byte(i >> 8), byte(i)}, at(b)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(time.Second)
		s := n.Stats()
		if s.Lost < 150 || s.Lost > 250 || s.Doubled < 50 || s.Doubled > 110 || s.Delivered != 1000-s.Lost+s.Doubled {
			t.Errorf("got %+v", s)
		}
		var order []int
		for range s.Delivered {
			buf := make([]byte, 8)
			if _, who, err := to.ReadFrom(buf); err != nil || who != at(a) {
				t.Fatal(who, err)
			}
			order = append(order, int(buf[0])<<8|int(buf[1]))
		}
		if slices.IsSorted(order) {
			t.Error("jitter reordered nothing")
		}
	})
}

func TestASeedGivesTheSameLosses(t *testing.T) {
	run := func(seed uint64) (got []byte) {
		synctest.Test(t, func(*testing.T) {
			n := lossy.New(seed, lossy.Link{Loss: 0.5, Delay: time.Millisecond})
			from, _ := n.Host(a).ListenPacket(at(a), netip.Addr{})
			to, _ := n.Host(b).ListenPacket(at(b), netip.Addr{})
			for i := range 100 {
				_, _ = from.WriteTo([]byte{byte(i)}, at(b))
				time.Sleep(2 * time.Millisecond)
			}
			for range n.Stats().Delivered {
				one := make([]byte, 1)
				_, _, _ = to.ReadFrom(one)
				got = append(got, one...)
			}
		})
		return got
	}
	if x, y := run(7), run(7); !bytes.Equal(x, y) {
		t.Errorf("seed 7 gave\n%v and\n%v", x, y)
	}
	if x, y := run(7), run(8); bytes.Equal(x, y) {
		t.Error("seeds 7 and 8 gave the same")
	}
}

func TestStreamsKeepOrderThroughLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(3, lossy.Link{Loss: 0.1, Delay: time.Millisecond, Jitter: 3 * time.Millisecond})
		near, far := stream(t, n)
		want := make([]byte, 1<<20)
		for i := range want {
			want[i] = byte(i * 7)
		}
		go func() {
			for chunk := range slices.Chunk(want, 4000) {
				_, _ = near.Write(chunk)
			}
			_ = near.Close()
		}()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
		}
		_ = far.Close()
	})
}

func TestAStreamHangsAcrossACutAndGoesOnAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(1, lossy.Link{Delay: time.Millisecond})
		near, far := stream(t, n)
		n.Cut(a, b)
		if _, err := near.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		_ = far.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := far.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read across a cut: %v", err)
		}
		var timeout net.Error
		if _, err := far.Read(make([]byte, 8)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v does not say that it is a timeout", err)
		}
		n.Heal(a, b)
		_ = far.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 8)
		if k, err := far.Read(buf); err != nil || string(buf[:k]) != "late" {
			t.Errorf("after healing: %q, %v", buf[:k], err)
		}
		_, _ = near.Close(), far.Close()
	})
}

func TestALongCutBreaksAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(1, lossy.Link{})
		near, far := stream(t, n)
		start := time.Now()
		n.CutOneWay(a, b)
		for _, end := range []net.Conn{near, far} {
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("got %v", err)
			}
		}
		if d := time.Since(start); d != lossy.BreakAfter {
			t.Errorf("broke after %s", d)
		}
	})
}

func TestAOneWayCutLetsTheOtherWayThroughUntilTheBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(1, lossy.Link{Delay: time.Millisecond})
		near, far := stream(t, n)
		n.CutOneWay(b, a) // acknowledgements are lost
		if _, err := near.Write([]byte("through")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		if k, err := far.Read(buf); err != nil || string(buf[:k]) != "through" {
			t.Errorf("got %q, %v", buf[:k], err)
		}
		_ = near.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := near.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a megabyte without acknowledgement: %v", err)
		}
		_, _ = near.Close(), far.Close()
	})
}

func TestDialsAcrossACutHangAndConnectAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(1, lossy.Link{})
		l, err := n.Host(b).Listen(at(b))
		if err != nil {
			t.Fatal(err)
		}
		n.Host(a)
		n.Split(a)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := n.Host(a).Dial(ctx, a, at(b)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.AfterFunc(time.Second, n.HealAll)
		conn, err := n.Host(a).Dial(t.Context(), a, at(b))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Close(), l.Close()
		if _, err := n.Host(a).Dial(t.Context(), a, at(b)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
	})
}

func TestACrashResetsAPowerLossHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(1, lossy.Link{})
		near, _ := stream(t, n)
		n.Host(b).Crash()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after a crash: %v", err)
		}
		near, _ = stream(t, n) // the port is free again
		n.Host(b).PowerOff()
		_ = near.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after a power loss: %v", err)
		}
		n.Host(b).PowerOn()
		if _, err := near.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("after the power came back: %v", err)
		}
	})
}

func TestAddressesAreChecked(t *testing.T) {
	n := lossy.New(1, lossy.Link{})
	if _, err := n.Host(a).Listen(at(b)); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listen on another host's address: %v", err)
	}
	if _, err := n.Host(a).Listen(at(a)); err != nil {
		t.Error(err)
	}
	if _, err := n.Host(a).Listen(at(a)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listen twice: %v", err)
	}
}

// TestPortsOverALossyNetwork runs the whole underlay in virtual time: every call
// ends, with an answer or by its deadline, whatever the network does.
func TestPortsOverALossyNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(11, lossy.Link{Loss: 0.2, Delay: 2 * time.Millisecond, Jitter: 10 * time.Millisecond})
		ports := map[netip.Addr]*underlay.Port{}
		for _, addr := range []netip.Addr{a, b, c} {
			p, err := underlay.Open(underlay.Config{Listen: at(addr), Network: n.Host(addr)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}()
			p.Handle("echo", func(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) { return body, nil })
			ports[addr] = p
		}
		time.AfterFunc(10*time.Second, func() { n.Cut(a, b) })
		time.AfterFunc(20*time.Second, func() { n.Heal(a, b); n.Host(c).PowerOff() })
		answered, failed := 0, 0
		for i := range 60 {
			to := []netip.Addr{b, c}[i%2]
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			got, err := ports[a].Call(ctx, at(to), "echo", fmt.Append(nil, i))
			cancel()
			switch {
			case time.Since(start) > time.Second:
				t.Errorf("call %d took %s", i, time.Since(start))
			case err != nil:
				failed++
			case string(got) != fmt.Sprint(i):
				t.Errorf("call %d answered %q", i, got)
			default:
				answered++
			}
			time.Sleep(500 * time.Millisecond)
		}
		if answered < 20 || failed < 5 {
			t.Errorf("%d answered, %d failed: the schedule missed its faults", answered, failed)
		}
		n.Host(c).PowerOn()
	})
}

// TestAPackageThatDoesNotAccept checks that neither its streams nor those of other
// packages wait for ever.
func TestAPackageThatDoesNotAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lossy.New(1, lossy.Link{Delay: time.Millisecond})
		p, err := underlay.Open(underlay.Config{Listen: at(a), Network: n.Host(a)})
		if err != nil {
			t.Fatal(err)
		}
		p.Stream(underlay.KindLedger)
		p.Handle("echo", func(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) { return body, nil })
		var ends []net.Conn
		for range 200 {
			conn, err := p.Dial(t.Context(), underlay.KindLedger, p.Addr())
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, conn)
		}
		if _, err := p.Call(t.Context(), p.Addr(), "echo", nil); err != nil {
			t.Errorf("another package suffers: %v", err)
		}
		for _, conn := range ends {
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a stream that nobody accepts: %v", err)
			}
			_ = conn.Close()
		}
		if s := p.Stats(); s.Overflow != 200 {
			t.Errorf("counted %+v", s)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}
