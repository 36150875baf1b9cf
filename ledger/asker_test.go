package ledger_test

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
	"github.com/weftnet/weft/underlay"
)

// command asks the leader for a decision, as whoever has a port can.
func (s *sim) command(from *underlay.Port, cmd state.Command) error {
	s.t.Helper()
	cmd.Cluster = clusterID
	body, err := state.EncodeCommand(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	leader := s.leader()
	if leader == nil {
		return errors.New("nobody leads any more")
	}
	answer, err := from.Call(s.t.Context(), leader.at, "ledger.do", body)
	if err != nil {
		return err
	}
	return ledger.RefusalOf(answer)
}

func (s *sim) stranger(at string) *underlay.Port {
	s.t.Helper()
	addr := netip.MustParseAddr(at)
	p, err := underlay.Open(underlay.Config{Listen: netip.AddrPortFrom(addr, port), Network: s.net.Host(addr)})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// TestNobodyAsksInAnothersName: from its own address a stranger neither removes a host nor has it leave,
// start again or say anything else, whatever it knows of that host.
func TestNobodyAsksInAnothersName(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(4)
		p := s.stranger("203.0.113.9")
		defer func() { _ = p.Close() }()
		for n := 1; n <= 4; n++ {
			h := s.hosts[n]
			admit := func(addr netip.AddrPort) *state.Admit { return &state.Admit{Name: "mine", Addr: addr, Level: 9} }
			for what, cmd := range map[string]state.Command{
				"leave":                    {Kind: state.KindLeave},
				"remove another":           {Kind: state.KindRemove, Remove: &state.Remove{Target: hostID(n%4 + 1), IsOff: true}},
				"renew":                    {Kind: state.KindRenew},
				"admit where it is":        {Kind: state.KindAdmit, Admit: admit(h.at)},
				"admit elsewhere":          {Kind: state.KindAdmit, Admit: admit(p.Addr())},
				"admit a start":            {Kind: state.KindAdmit, Start: h.starts + 1, Nonce: 1, Admit: admit(p.Addr())},
				"admit a start at its own": {Kind: state.KindAdmit, Start: h.starts + 1, Nonce: 1, Admit: admit(h.at)},
				"admit the last start":     {Kind: state.KindAdmit, Start: netmap.MaxCounter, Nonce: 1, Admit: admit(p.Addr())},
				"leave at the next start":  {Kind: state.KindLeave, Start: h.starts + 1, Nonce: 1},
				"found":                    {Kind: state.KindFound, Found: &state.Found{Cluster: clusterID}},
			} {
				cmd.Host = hostID(n)
				if cmd.Start == 0 {
					cmd.Start, cmd.Nonce = h.starts, h.nonce
				}
				if err := s.command(p, cmd); err == nil {
					t.Errorf("host-%d: %s was decided", n, what)
				}
			}
			id := hostID(n)
			if _, err := p.Call(s.t.Context(), s.leader().at, "ledger.vacate", id[:]); err == nil {
				t.Errorf("a stranger says that host-%d is about to leave", n)
			}
		}
		s.works()
		for n := 1; n <= 4; n++ {
			s.hosts[n].do(ensure())
		}
		s.agree()
	})
}

// TestARecoveryIsAskedForByAMember at its own address: whoever else asks would keep a host for a minute
// from taking part in one.
func TestARecoveryIsAskedForByAMember(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		p := s.stranger("203.0.113.9")
		defer func() { _ = p.Close() }()
		for _, by := range []netmap.HostID{hostID(77), hostID(2)} {
			for n := 1; n <= 3; n++ {
				if _, err := p.Call(s.t.Context(), s.hosts[n].at, "ledger.consent", ledger.ConsentAsk(1<<33, by)); err == nil {
					t.Errorf("host-%d takes part in the recovery of a stranger as %s", n, by.Short())
				}
			}
		}
		if _, err := s.hosts[2].port.Call(s.t.Context(), s.hosts[1].at, "ledger.consent", ledger.ConsentAsk(1<<33, hostID(2))); err != nil {
			t.Error(err)
		}
	})
}

// TestAHostMoves: it is admitted at another address when it is not at its old one any more, and not
// while another start of it answers there.
func TestAHostMoves(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(4)
		h := s.hosts[4]
		p := s.stranger("203.0.113.9")
		defer func() { _ = p.Close() }()
		next := state.Command{Kind: state.KindAdmit, Host: hostID(4), Start: h.starts + 1, Nonce: 99, Admit: &state.Admit{Name: "copy", Addr: p.Addr()}}
		var refusal *netmap.Refusal
		if err := s.command(p, next); !errors.As(err, &refusal) || refusal.Kind != netmap.Fenced {
			t.Errorf("a copy of a host that runs: %v", err)
		}
		h.do(ensure())
		h.stop()
		h.addr = netip.MustParseAddr("203.0.113.10")
		s.net.Host(h.addr)
		h.start()
		begin := time.Now()
		h.do(ensure())
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("it is admitted at its new address after %v", took)
		}
		s.works()
	})
}

// TestAStartIsNotSpokenForBeforeItsAdmission: a stranger hears of a start from the gossip, and asks in its name until it is
// admitted. Nothing of that is decided.
func TestAStartIsNotSpokenForBeforeItsAdmission(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(4)
		h := s.hosts[4]
		p := s.stranger("203.0.113.9")
		defer func() { _ = p.Close() }()
		next := state.Incarnation{Start: h.starts + 1, Nonce: 99}
		var flood sync.WaitGroup
		for n := range 200 {
			flood.Go(func() {
				turn.Sleep(s.t.Context(), time.Duration(n)*100*time.Microsecond)
				_ = s.command(p, state.Command{Kind: state.KindLeave, Host: hostID(4), Start: next.Start, Nonce: next.Nonce})
			})
		}
		turn.Sleep(s.t.Context(), 10*time.Millisecond)
		cmd := state.Command{Kind: state.KindAdmit, Host: hostID(4), Start: next.Start, Nonce: next.Nonce, Admit: &state.Admit{Name: "host-4", Addr: h.at}}
		if err := s.command(h.port, cmd); err != nil {
			t.Error(err)
		}
		flood.Wait()
		renew := state.Command{Kind: state.KindRenew, Host: hostID(4), Start: next.Start, Nonce: next.Nonce}
		if err := s.command(h.port, renew); err != nil {
			t.Errorf("after a stranger spoke for it: %v", err)
		}
	})
}
