package underlay

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// from is a stream that comes from an address.
type from struct {
	net.Conn
	addr   string
	closed bool
}

func (f *from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(f.addr), 1))
}

func (f *from) Close() error {
	f.closed = true
	return nil
}

// TestTheCrowdGoesFirst: one address that fills the pending connections pushes out its own streams,
// the oldest first, and nobody who came just now has to go.
func TestTheCrowdGoesFirst(t *testing.T) {
	for one, crowd := range map[string][]string{"192.0.2.1": {"192.0.2.9"}, "2001:db8:1::1": {"2001:db8:2::1", "2001:db8:2::2"}} {
		synctest.Test(t, func(t *testing.T) {
			l := &pendingConns{}
			alone := &from{addr: one} // the oldest of all
			l.enter(t.Context(), alone)
			var many []*from
			for i := range maxSilent {
				many = append(many, &from{addr: crowd[i%len(crowd)]})
				begin := time.Now()
				l.enter(t.Context(), many[i])
				if took := time.Since(begin); i == maxSilent-1 != (took >= minSilent) {
					t.Errorf("number %d waited %s", i, took)
				}
			}
			if alone.closed || !many[0].closed || many[1].closed {
				t.Errorf("gone: %t, %t, %t; want the oldest of the crowd", alone.closed, many[0].closed, many[1].closed)
			}
			if len(l.conns) != maxSilent {
				t.Errorf("%d are in", len(l.conns))
			}
		})
	}
}

// TestWhoSpeaksMakesRoom, and needs none any more.
func TestWhoSpeaksMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pendingConns{}
		first := l.enter(t.Context(), &from{addr: "192.0.2.1"})
		for range maxSilent - 1 {
			l.enter(t.Context(), &from{addr: "192.0.2.1"})
		}
		begin := time.Now()
		time.AfterFunc(minSilent/2, first.leave)
		l.enter(t.Context(), &from{addr: "192.0.2.2"})
		if took := time.Since(begin); took < minSilent/2 || took > minSilent/2+lookAgain {
			t.Errorf("waited %s", took)
		}
		first.leave()
		if len(l.conns) != maxSilent {
			t.Errorf("%d are in", len(l.conns))
		}
	})
}
