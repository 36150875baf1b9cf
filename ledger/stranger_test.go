package ledger_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
)

// impostor speaks raft in the name of a host, from some address.
type impostor struct {
	net.Listener
	port  *underlay.Port
	as    *simHost
	trans *raft.NetworkTransport
}

func newImpostor(s *sim, at netip.Addr, as *simHost) *impostor {
	s.t.Helper()
	p, err := underlay.Open(underlay.Config{Listen: netip.AddrPortFrom(at, port), Network: s.net.Host(at)})
	if err != nil {
		s.t.Fatal(err)
	}
	i := &impostor{Listener: p.Stream(ledger.StreamKind), port: p, as: as}
	i.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: i, Timeout: time.Second, Logger: hclog.NewNullLogger()})
	return i
}

func (i *impostor) close() {
	_ = i.trans.Close()
	_ = i.port.Close()
}

// Dial implements raft.StreamLayer.
func (i *impostor) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	id, err := netmap.ParseID(string(address[:32]))
	if err != nil {
		return nil, err
	}
	conn, err := i.port.Dial(ctx, ledger.StreamKind, netip.MustParseAddrPort(string(address[33:])))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Write(ledger.GreetingFor(clusterID, hostID(i.as.n), id, i.as.starts, i.as.nonce)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, make([]byte, ledger.GreetingBytes)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, conn.SetDeadline(time.Time{})
}

// header is that of the host in whose name it speaks.
func (i *impostor) header() raft.RPCHeader {
	id := raft.ServerID(hostID(i.as.n).String())
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: i.trans.EncodePeer(id, ledger.ServerAddress(hostID(i.as.n), i.as.at))}
}

// attacks are messages that stop or wedge a keeper that believes them.
var attacks = map[string]func(h raft.RPCHeader) any{
	"a term that ends all elections": func(h raft.RPCHeader) any {
		return &raft.RequestVoteRequest{RPCHeader: h, Term: math.MaxUint64, LastLogIndex: math.MaxUint64, LastLogTerm: math.MaxUint64}
	},
	"a leader of such a term": func(h raft.RPCHeader) any {
		return &raft.AppendEntriesRequest{RPCHeader: h, Term: math.MaxUint64, PrevLogEntry: 7}
	},
	"its heartbeat": func(h raft.RPCHeader) any { return &raft.AppendEntriesRequest{RPCHeader: h, Term: math.MaxUint64} },
	"an unreadable configuration": func(h raft.RPCHeader) any {
		return entryOf(h, raft.LogConfiguration, []byte("x"))
	},
	"an entry of a type that is no more": func(h raft.RPCHeader) any {
		return entryOf(h, raft.LogAddPeerDeprecated, []byte("x"))
	},
	"an unknown type":       func(h raft.RPCHeader) any { return entryOf(h, 99, nil) },
	"an unreadable command": func(h raft.RPCHeader) any { return entryOf(h, raft.LogCommand, []byte(`{"v":99,"body":{}}`)) },
	"an index beyond all": func(h raft.RPCHeader) any {
		a := entryOf(h, raft.LogNoop, nil)
		a.Entries[0].Index = math.MaxUint64
		return a
	},
	"a snapshot of 2^50 bytes": func(h raft.RPCHeader) any {
		return &raft.InstallSnapshotRequest{RPCHeader: h, SnapshotVersion: 1, Term: 9, LastLogIndex: 9, LastLogTerm: 9, Configuration: configuration(), Size: 1 << 50}
	},
	"a snapshot with an unreadable configuration": func(h raft.RPCHeader) any {
		return &raft.InstallSnapshotRequest{RPCHeader: h, SnapshotVersion: 1, Term: 9, LastLogIndex: 9, LastLogTerm: 9, Configuration: []byte("x"), Size: 2}
	},
	"a snapshot that is none": func(h raft.RPCHeader) any {
		return &raft.InstallSnapshotRequest{RPCHeader: h, SnapshotVersion: 1, Term: 9, LastLogIndex: 9, LastLogTerm: 9, Configuration: configuration(), Size: 2}
	},
}

func entryOf(h raft.RPCHeader, kind raft.LogType, data []byte) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{RPCHeader: h, Term: 1 << 20, Entries: []*raft.Log{{Index: 1, Term: 1, Type: kind, Data: data}}}
}

func configuration() []byte {
	return raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(hostID(1).String()), Address: ledger.ServerAddress(hostID(1), netip.MustParseAddrPort("192.0.2.1:7950"))}}})
}

// send says one message to a keeper, and fails if it was taken.
func (i *impostor) send(to *simHost, message any) error {
	id, addr := raft.ServerID(hostID(to.n).String()), ledger.ServerAddress(hostID(to.n), to.at)
	switch m := message.(type) {
	case *raft.RequestVoteRequest:
		return i.trans.RequestVote(id, addr, m, &raft.RequestVoteResponse{})
	case *raft.AppendEntriesRequest:
		return i.trans.AppendEntries(id, addr, m, &raft.AppendEntriesResponse{})
	case *raft.InstallSnapshotRequest:
		return i.trans.InstallSnapshot(id, addr, m, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("{}")))
	}
	panic("unknown message")
}

// TestRaftAnswersKeepersOnly: neither a stranger nor who only says that he is a keeper.
func TestRaftAnswersKeepersOnly(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(3)
		stranger := netip.MustParseAddr("203.0.113.9")
		s.net.Host(stranger)
		for who, as := range map[string]*simHost{"nobody": {n: 77, at: netip.AddrPortFrom(stranger, port)}, "a keeper": s.hosts[3]} {
			i := newImpostor(s, stranger, as)
			for name, attack := range attacks {
				for n := 1; n <= 2; n++ {
					if err := i.send(s.hosts[n], attack(i.header())); err == nil {
						t.Errorf("%s: %s was answered", who, name)
					}
				}
			}
			i.close()
		}
		s.works()
	})
}

// works fails unless the ledger decides, as the same keepers.
func (s *sim) works() {
	s.t.Helper()
	for n := 1; n <= 2; n++ {
		s.hosts[n].do(ensure())
		s.hosts[n].do(grant())
	}
	for n := 1; n <= 2; n++ {
		if st := s.hosts[n].ledger.Status(); st.Problem != "" || !s.hosts[n].keeps() || st.Generation != 1 {
			s.t.Errorf("host-%d: %+v", n, st)
		}
	}
}

// impersonated stops one of three keepers that does not lead. The impostor has its address.
func (s *sim) impersonated() (i *impostor, victim *simHost) {
	victim = s.hosts[3]
	if victim == s.leader() {
		victim = s.hosts[2]
	}
	victim.stop()
	return newImpostor(s, victim.addr, victim), victim
}

// TestNoMessageOfAKeeperEndsAnother: it is checked before it is stored.
func TestNoMessageOfAKeeperEndsAnother(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3, lan, func(s *sim) {
				s.found()
				s.grow(3)
				i, victim := s.impersonated()
				for n, h := range s.hosts {
					if h == victim {
						continue
					}
					if err := i.send(h, attack(i.header())); err == nil {
						t.Errorf("host-%d took it", n)
					}
				}
				i.close()
				victim.start()
				s.hosts[1].do(ensure())
				s.eventually("all keep", 10*time.Second, func() bool { return len(s.voters()) == 3 && victim.ledger.Status().Applied > 0 })
				s.agree()
				for n, h := range s.hosts { // what was stored is read again
					h.stop()
					h.start()
					s.hosts[n].do(ensure())
				}
				s.agree()
			})
		})
	}
}

// TestOnlyMembersLeave: whoever else is said to be about to leave is not remembered.
func TestOnlyMembersLeave(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		i := newImpostor(s, netip.MustParseAddr("203.0.113.66"), s.hosts[2])
		defer i.close()
		for n := 1; n <= 3; n++ {
			for id := range 100 {
				invented := netmap.HostID{0xee, byte(id)}
				if _, err := i.port.Call(s.t.Context(), s.hosts[n].at, "ledger.vacate", invented[:]); err == nil {
					t.Fatalf("host-%d takes in that an invented host leaves", n)
				}
			}
			if left := s.hosts[n].ledger.Leaving(); left > 0 {
				t.Errorf("host-%d remembers %d", n, left)
			}
		}
	})
}

// TestASnapshotThatTricklesHoldsNobodyUp: raft waits for whole snapshots only.
func TestASnapshotThatTricklesHoldsNobodyUp(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		i, _ := s.impersonated()
		defer i.close()
		head := attacks["a snapshot that is none"](i.header()).(*raft.InstallSnapshotRequest)
		head.Size = 200 << 20
		trickle, write := io.Pipe()
		ended := make(chan error, 1)
		to := s.leader()
		go func() {
			id, addr := raft.ServerID(hostID(to.n).String()), ledger.ServerAddress(hostID(to.n), to.at)
			ended <- i.trans.InstallSnapshot(id, addr, head, &raft.InstallSnapshotResponse{}, trickle)
		}()
		for range 30 {
			_, _ = write.Write([]byte("x"))
			time.Sleep(time.Second)
			to.do(ensure())
		}
		_ = write.CloseWithError(io.ErrUnexpectedEOF)
		if <-ended == nil {
			t.Error("it was taken")
		}
	})
}

// TestAStrangerNeitherMakesNorEndsKeepers: whoever asks a host to keep, or to keep no more,
// is asked back where it is known to be.
func TestAStrangerNeitherMakesNorEndsKeepers(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(4)
		stranger := netip.MustParseAddr("203.0.113.9")
		p, err := underlay.Open(underlay.Config{Listen: netip.AddrPortFrom(stranger, port), Network: s.net.Host(stranger)})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for _, h := range s.hosts {
			for _, leader := range []netmap.HostID{hostID(77), hostID(1), hostID(2), hostID(3)} {
				for _, generation := range []uint64{0, 1, 1 << 33, math.MaxUint64} {
					for _, request := range []string{"ledger.join", "ledger.dismiss"} {
						_, _ = p.Call(s.t.Context(), h.at, request, ledger.Invitation(clusterID, leader, hostID(h.n), generation))
					}
				}
			}
		}
		time.Sleep(20 * time.Second)
		if s.hosts[4].keeps() {
			t.Error("host-4 keeps the ledger because a stranger said so")
		}
		s.works()
		for n := 1; n <= 4; n++ {
			if _, err := os.Stat(s.dirOf(n) + ".old"); err == nil {
				t.Errorf("the log of host-%d was set aside", n)
			}
		}
		if len(s.voters()) != 3 {
			t.Errorf("keepers: %v", s.voters())
		}
	})
}

// TestAKeeperThatTheLedgerRefusesDoesNotCount: a copy of it runs elsewhere, and a host that
// knows only the old one believes the keepers that its operator named. As long as the old
// one is not refused, nobody else is believed.
func TestAKeeperThatTheLedgerRefusesDoesNotCount(t *testing.T) {
	for name, fenced := range map[string]bool{"refused": true, "not refused": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 5, lan, func(s *sim) {
				elsewhere := netip.MustParseAddrPort("203.0.113.9:7950")
				p, err := underlay.Open(underlay.Config{Listen: elsewhere, Network: s.net.Host(elsewhere.Addr())})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = p.Close() }()
				old := ledger.Peer{ID: hostID(1), Addr: elsewhere, Voter: true}
				p.Handle("ledger.report", func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
					return ledger.KeeperReport(old, 1, fenced, false), nil
				})
				s.hosts[4].trusted, s.hosts[4].named = []ledger.Peer{old}, []netip.AddrPort{netip.AddrPortFrom(s.hosts[2].addr, port)}
				s.found()
				if fenced {
					s.grow(5)
					return
				}
				s.grow(4)
				s.hosts[5].start()
				if _, err := s.hosts[5].ledger.Admit(s.t.Context()); err != nil {
					t.Fatal(err)
				}
				s.never("host-4 keeps the ledger with others", 40*time.Second, s.hosts[4].keeps)
			})
		})
	}
}

// TestAnIdleHostKnowsTheKeepersOfToday: it joined when there was one, which may be lost with
// most of the others; by the facts there are more, and it asks the one that it knows.
func TestAnIdleHostKnowsTheKeepersOfToday(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.hosts[4].trusted = []ledger.Peer{{ID: hostID(1), Addr: netip.AddrPortFrom(s.hosts[1].addr, port), Voter: true}}
		s.found()
		s.grow(3)
		s.hosts[4].start()
		idle := s.hosts[4].ledger
		s.never("host-4 knows more than one keeper", time.Minute, func() bool { return len(idle.Trusted()) > 1 })
		s.eventually("host-4 knows the keepers", time.Minute, func() bool {
			idle.Announced([]netmap.HostID{hostID(1), hostID(2), hostID(3)})
			return len(idle.Trusted()) == 3
		})
	})
}

// TestOneLiarIsNoMajority: it knows more than the others, and says that it is the only
// keeper.
func TestOneLiarIsNoMajority(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(4)
		s.eventually("host-4 knows the keepers", 20*time.Second, func() bool {
			s.hosts[4].do(ensure())
			return len(s.hosts[4].ledger.Trusted()) == 3
		})
		liar := s.hosts[3]
		if liar == s.leader() {
			liar = s.hosts[2]
		}
		liar.stop()
		p, err := underlay.Open(underlay.Config{Listen: liar.at, Network: s.net.Host(liar.addr)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		var generation atomic.Uint64
		p.Handle("ledger.report", func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
			return ledger.KeeperReport(ledger.Peer{ID: hostID(liar.n), Addr: liar.at, Voter: true}, generation.Load(), false, true), nil
		})
		for _, g := range []uint64{1, 1 << 33} {
			generation.Store(g)
			if answer, err := s.hosts[4].ledger.AskRemoved(s.t.Context()); answer != ledger.Unknown || err == nil {
				t.Errorf("of generation %d: it says %v, %v", g, answer, err)
			}
		}
	})
}
