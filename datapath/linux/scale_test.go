package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
)

// crowd announces n endpoints on other hosts.
func (r *rig) crowd(from, n int) {
	for i := from; i < from+n; i++ {
		r.hosts[1+i%(len(r.hosts)-1)].announce(endpoint(1, i))
	}
}

func TestIntegrationThousandsOfEntries(t *testing.T) {
	r := newRig(t, 3, 1500)
	r.network(1, true)
	h := r.hosts[0]
	r.crowd(100, 4096)
	start := time.Now()
	report := h.set()
	first := time.Since(start)
	start = time.Now()
	again := h.set()
	second := time.Since(start)
	h.isWanted()
	if n := report.Done; n < 4*4096 || again.Done > 0 {
		t.Errorf("did %d operations, then %d", n, again.Done)
	}
	t.Logf("4096 endpoints, %d operations: %v; nothing to do: %v", report.Done, first, second)
	if first > 10*time.Second {
		t.Errorf("took %v", first)
	}
}

// A port is plugged while a large Set runs, by a state that does not know it, and
// that thinks its address is elsewhere.
func TestIntegrationPlugBesideSet(t *testing.T) {
	r := newRig(t, 3, 1500)
	r.network(1, true)
	h := r.hosts[0]
	const ports = 200
	r.crowd(1, 2000) // among them the addresses of the ports
	r.network(2, true)
	big, small := h.want(), datapath.State{}
	_, err := h.k.Set(t.Context(), big)
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	var sets int
	busy.Go(func() {
		for ; ctx.Err() == nil; sets++ {
			want := big
			if sets%2 == 0 {
				want = small
			}
			if _, err := h.k.Set(t.Context(), want); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var slowest, sum time.Duration
	for i := 1; i <= ports; i++ {
		start := time.Now()
		name, err := h.k.Plug(t.Context(), datapath.Plugged{Device: h.device(1), Port: endpoint(1, i)})
		took := time.Since(start)
		slowest, sum = max(slowest, took), sum+took
		check(t, err)
		if _, err := h.ns.LinkByName(name); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			check(t, h.k.Unplug(t.Context(), endpoint(1, i).Endpoint))
		}
	}
	stop()
	busy.Wait()
	t.Logf("%d ports beside %d Sets: mean %v, slowest %v", ports, sets, sum/ports, slowest)
	n, _ := h.read().Network(h.device(1).VNI)
	for i := 1; i <= ports; i++ {
		p := endpoint(1, i)
		there := slices.Contains(n.Bridging, datapath.Bridging{MAC: p.HardwareAddr(), Port: datapath.OuterName(p.Endpoint)}) &&
			slices.Contains(n.Neighbours, datapath.Neighbour{Addr: p.V4, MAC: p.HardwareAddr()}) &&
			slices.Contains(n.Neighbours, datapath.Neighbour{Addr: p.V6, MAC: p.HardwareAddr()})
		if there != (i%4 != 0) {
			t.Errorf("port %d: forwarding %v", i, there)
		}
	}
}

func TestIntegrationABridgeIsFull(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 1023 veth pairs")
	}
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	for i := 1; i < 1023; i++ { // and the VXLAN device
		if _, err := h.k.Plug(t.Context(), datapath.Plugged{Device: h.device(1), Port: endpoint(1, i)}); err != nil {
			t.Fatal(i, err)
		}
	}
	_, err := h.k.Plug(t.Context(), datapath.Plugged{Device: h.device(1), Port: endpoint(1, 1023)})
	if !errors.Is(err, unix.EXFULL) {
		t.Errorf("the 1024th port: %v", err)
	}
	if l, err := h.ns.link(datapath.InnerName(endpoint(1, 1023).Endpoint)); err != nil || l != nil {
		t.Errorf("what was refused is left: %v, %v", l, err)
	}
}

func TestIntegrationPlugGivesUpInTime(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	defer h.k.turn.Wait()()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := h.k.Plug(ctx, datapath.Plugged{Device: h.device(1), Port: endpoint(1, 1)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkThroughput is one TCP stream between two hosts' containers, and for
// comparison over the bare underlay and over a VXLAN device between the hosts.
// Only the ratios carry over to other machines.
func BenchmarkThroughput(b *testing.B) {
	b.Run("underlay", func(b *testing.B) {
		r := newRig(b, 2, 1500)
		stream(b, r.hosts[0].ns, r.hosts[1].ns, netip.MustParseAddr("192.0.2.2"))
	})
	b.Run("bare", func(b *testing.B) {
		r := newRig(b, 2, 1500)
		for i, h := range r.hosts {
			v := &netlink.Vxlan{LinkAttrs: attrs("vx0", 1450), VxlanId: 42, Port: 4790, SrcAddr: net.IP(h.local.Source.AsSlice()), Group: net.IP{192, 0, 2, byte(2 - i)}}
			check(b, h.ns.LinkAdd(v))
			h.ns.address(b, "vx0", fmt.Sprintf("10.99.0.%d/24", i+1))
		}
		stream(b, r.hosts[0].ns, r.hosts[1].ns, netip.MustParseAddr("10.99.0.2"))
	})
	b.Run("weft", func(b *testing.B) {
		r := newRig(b, 2, 1500)
		r.network(1, true)
		from, to := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
		r.sync()
		stream(b, from.ns, to.ns, to.port.V4)
	})
}

func BenchmarkPlugAndUnplug(b *testing.B) {
	r := newRig(b, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	h.set()
	p := datapath.Plugged{Device: h.device(1), Port: endpoint(1, 1)}
	var plugging time.Duration
	for b.Loop() {
		start := time.Now()
		_, err := h.k.Plug(b.Context(), p)
		plugging += time.Since(start)
		check(b, err)
		check(b, h.k.Unplug(b.Context(), p.Port.Endpoint))
	}
	b.ReportMetric(float64(plugging.Microseconds())/float64(b.N), "µs/plug")
}

func stream(b *testing.B, from, to *space, addr netip.Addr) {
	b.Helper()
	in := func(s *space, fn func() error) {
		check(b, s.ns.Do(fn))
	}
	var l net.Listener
	in(to, func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(b.Context(), "tcp", ":0")
		return err
	})
	defer func() { check(b, l.Close()) }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, c) // ends when the sender closes
		_ = c.Close()
	}()
	var c net.Conn
	in(from, func() (err error) {
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(addr, port).String(), 5*time.Second)
		return err
	})
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	check(b, c.Close())
	<-done
}
