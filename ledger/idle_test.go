package ledger_test

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/underlay"
)

// TestAnIdleLeaderSendsLittle counts the bytes of the leader's streams to the four other keepers
// of a large cluster.
func TestAnIdleLeaderSendsLittle(t *testing.T) {
	bubble(t, 5, lan, func(s *sim) {
		s.found()
		s.grow(5)
		s.agree()
		const idle = 30 * time.Second
		leader := s.leader()
		changed := func() bool { return s.leader() != leader }
		s.never("the leader changed", 5*time.Second, changed) // the last of the five is told everything
		sent := leader.traffic.sent.Load()
		s.never("the leader changed", idle, changed)
		got := float64(leader.traffic.sent.Load()-sent) / idle.Seconds()
		s.t.Logf("an idle leader of five sends %.0f bytes a second", got)
		if got > 4500 {
			s.t.Errorf("an idle leader sends %.0f bytes a second, want fewer than 4500", got)
		}
	})
}

// traffic counts the bytes that a host sends on its streams.
type traffic struct{ sent atomic.Int64 }

// counted is a network that counts.
type counted struct {
	underlay.Network
	*traffic
}

func (c counted) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	conn, err := c.Network.Dial(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return countedConn{conn, c.traffic}, nil
}

func (c counted) Listen(at netip.AddrPort) (net.Listener, error) {
	l, err := c.Network.Listen(at)
	return countedListener{l, c.traffic}, err
}

type countedListener struct {
	net.Listener
	*traffic
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{conn, l.traffic}, nil
}

type countedConn struct {
	net.Conn
	*traffic
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}
