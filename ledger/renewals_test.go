package ledger_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
	"github.com/weftnet/weft/underlay"
)

// bare is a host without an agent, of which only the port is open.
type bare struct {
	sim  *sim
	id   netmap.HostID
	at   netip.AddrPort
	port *underlay.Port
}

func (s *sim) bareHosts(n int) []*bare {
	out := make([]*bare, n)
	for i := range out {
		b := &bare{sim: s, id: netmap.HostID{0xdd, 15: 1}, at: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), port)}
		binary.BigEndian.PutUint16(b.id[1:], uint16(i))
		var err error
		if b.port, err = underlay.Open(underlay.Config{Listen: b.at, Network: s.net.Host(b.at.Addr())}); err != nil {
			s.t.Fatal(err)
		}
		out[i] = b
	}
	return out
}

// ask asks the leader for a decision, again and again as an agent does.
func (b *bare) ask(cmd state.Command) {
	cmd.Host, cmd.Cluster, cmd.Start, cmd.Nonce = b.id, clusterID, 1, 1
	body, err := state.EncodeCommand(cmd)
	if err != nil {
		b.sim.t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(b.sim.t.Context(), 5*time.Second)
	defer cancel()
	for pause := 20 * time.Millisecond; ; pause *= 2 {
		if leader := b.sim.leader(); leader != nil {
			if _, err = b.port.Call(ctx, leader.at, "ledger.do", body); err == nil {
				return
			}
		}
		if !turn.Sleep(ctx, pause) {
			b.sim.t.Errorf("host %s: %v", b.id.Short(), err)
			return
		}
	}
}

// spent is what the leader's streams and its disk had to do.
type spent struct{ bytes, writes int }

func (h *simHost) spent() spent { return spent{int(h.traffic.sent.Load()), h.ledger.DiskWrites()} }

func (s spent) since(before spent) spent {
	return spent{s.bytes - before.bytes, s.writes - before.writes}
}

// TestAThousandHostsRenew: the leader of five keepers takes the renewals of 1,000 hosts, all at one moment, as after
// a boot, and as they come in an hour. What waits together is one write of each keeper: 535 to 753 for 1,000 were seen,
// as the processors go. The network in memory refuses connections
// beyond a backlog, so some hosts ask again.
func TestAThousandHostsRenew(t *testing.T) {
	if testing.Short() {
		t.Skip("keepers write to the disk a thousand times; not with -short")
	}
	const hosts = 1000
	bubble(t, 5, lan, func(s *sim) {
		s.found()
		s.grow(5)
		s.agree()
		all, leader := s.bareHosts(hosts), s.leader()
		changed := func() bool { return s.leader() != leader }
		defer func() {
			for _, b := range all {
				_ = b.port.Close()
			}
		}()
		together := func(cmd func(b *bare) state.Command) (spent, time.Duration) {
			before, begin := leader.spent(), time.Now()
			var asking sync.WaitGroup
			for _, b := range all {
				asking.Go(func() { b.ask(cmd(b)) })
			}
			asking.Wait()
			took := time.Since(begin)
			s.agree()
			return leader.spent().since(before), took
		}
		together(func(b *bare) state.Command {
			return state.Command{Kind: state.KindAdmit, Admit: &state.Admit{Name: b.id.Short(), Addr: b.at}}
		})
		renewal := state.Command{Kind: state.KindRenew}
		got, took := together(func(*bare) state.Command { return renewal })
		t.Logf("%d renewals at one moment: answered after %s, %d writes of the leader, %d bytes of its streams for each", hosts, took, got.writes, got.bytes/hosts)
		if took > 5*time.Second || got.writes > hosts*9/10 || got.bytes > 3000*hosts {
			t.Errorf("%d renewals at one moment took %s, %+v", hosts, took, got)
		}
		const some = hosts / 60 // in a minute
		before := leader.spent()
		s.never("the leader changed", time.Minute, changed)
		idle := leader.spent().since(before)
		for _, b := range all[:some] {
			b.ask(renewal)
			s.never("the leader changed", time.Minute/some, changed)
		}
		got = leader.spent().since(before).since(idle)
		t.Logf("as they come in an hour: %d bytes a second of the leader's streams beside %d when idle, %d writes in a minute", (got.bytes-idle.bytes)/60, idle.bytes/60, got.writes)
		if got.bytes > 5000*60 || got.writes > some {
			t.Errorf("a minute took %+v", got)
		}
	})
}
