package underlay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestOneSourceClosesItsOwnStreams: whoever opens streams without end keeps few, and
// nobody else loses one.
func TestOneSourceClosesItsOwnStreams(t *testing.T) {
	all := &openStreams{}
	stream := func(addr string) *pendingConn {
		conn := &from{addr: addr}
		return &pendingConn{Conn: conn, from: sourceOf(conn)}
	}
	honest := stream("192.0.2.1")
	all.enter(honest)
	for i := range 1500 {
		g := stream("192.0.2.66")
		if goes := all.enter(g); (goes != nil) != (i >= maxOpenFrom) || goes == g || goes == honest {
			t.Fatalf("number %d: %v goes", i, goes)
		}
	}
	for i := range 1500 { // from many addresses, one stream each: a full house takes nobody's place
		g := stream(fmt.Sprintf("198.51.%d.%d", i/256, i%256))
		goes := all.enter(g)
		if goes == honest {
			t.Fatalf("an honest stream went for number %d", i)
		}
	}
	if len(all.open) > maxOpen || !slices.Contains(all.open, honest) {
		t.Errorf("%d are open, want %d and the honest one among them", len(all.open), maxOpen)
	}
	all.leave(honest)
	if g := stream("192.0.2.1"); all.enter(g) == g {
		t.Error("no stream comes in where one has left")
	}
}

// TestIdleStreamsAreBounded: of all that a stranger opens and keeps open, few are held.
func TestIdleStreamsAreBounded(t *testing.T) {
	port, err := Open(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	listener := port.Stream(KindLedger)
	came := make(chan net.Conn, 400)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			came <- conn
		}
	}()
	ended := make(chan bool, 400)
	head := prefaceOf(KindLedger)
	const many = 200
	for range many {
		conn, err := net.Dial("tcp", port.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(append(head[:], "hello"...)); err != nil {
			t.Fatal(err)
		}
		<-came // it is accepted and nothing is done with it
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			ended <- true
		}()
	}
	for range many - maxOpenFrom {
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatalf("more than %d idle streams of one source are open", maxOpenFrom)
		}
	}
}

// TestLargeBodiesShareTheirMemory: all at once they take no more than the budget, and one
// source leaves half of it to others.
func TestLargeBodiesShareTheirMemory(t *testing.T) {
	b := newBudget(maxBodies, maxBodiesFrom)
	bad, good := netip.MustParsePrefix("192.0.2.66/32"), netip.MustParsePrefix("192.0.2.1/32")
	taken := 0
	for range 24 {
		if ok, _ := b.try(bad, MaxBody); ok {
			taken += MaxBody
		}
	}
	if taken != maxBodiesFrom {
		t.Errorf("one source took %d MiB, want %d", taken>>20, maxBodiesFrom>>20)
	}
	if ok, _ := b.try(good, MaxBody); !ok {
		t.Error("another source gets nothing")
	}
	done := make(chan error, 1)
	go func() { done <- b.take(t.Context(), bad, MaxBody) }()
	b.give(good, MaxBody) // of no use to the one that waits
	b.give(bad, MaxBody)
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.take(ctx, bad, MaxBody); err == nil {
		t.Error("a wait did not end with its context")
	}
}

// TestAFloodOfLargeBodiesIsRefused on a real port, and a request of ordinary size is
// answered meanwhile.
func TestAFloodOfLargeBodiesIsRefused(t *testing.T) {
	port, err := Open(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	release, busy := make(chan struct{}), make(chan struct{}, 32)
	port.Handle("slow", func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
		busy <- struct{}{}
		<-release
		return nil, nil
	})
	port.Handle("echo", func(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) { return body, nil })
	caller, err := Open(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	const fit = maxBodiesFrom / (MaxBody / 2)
	errs := make(chan error, 24)
	body := make([]byte, MaxBody/2-1024)
	for range 24 {
		go func() {
			_, err := caller.Call(t.Context(), port.Addr(), "slow", body)
			errs <- err
		}()
	}
	for range fit {
		<-busy
	}
	for range 24 - fit {
		if err := <-errs; err == nil {
			t.Error("a request was answered before its time")
		}
	}
	if got, err := caller.Call(t.Context(), port.Addr(), "echo", []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("an ordinary request is answered with %q, %v", got, err)
	}
	close(release)
	for range fit {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestWhatArrives at a host in packets of a size, and at none where no agent listens.
func TestWhatArrives(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		port, err := Open(Config{Listen: netip.MustParseAddrPort(loopback)})
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1280, 65536} {
			if !port.Arrives(t.Context(), port.Addr(), size, 2*size) {
				t.Errorf("%s: packets of %d bytes do not arrive", loopback, size)
			}
		}
		if err := port.Close(); err != nil {
			t.Error(err)
		}
		if port.Arrives(t.Context(), port.Addr(), 1280, 1) {
			t.Errorf("%s: something arrives where nobody listens", loopback)
		}
	}
}
