package gossip

import (
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/netmap"
)

// How many members the ledger may not know. Anybody can invent members, and an exchange of
// memberlist's, which names them all, has a limit (maxNodes). A host that has heard nothing
// of the ledger yet knows none of them.
const (
	maxStrangers = 512
	maxAtFirst   = maxNodes / 2
)

// strangers are the members that were let in and that the ledger did not know when it was
// looked last. The zero strangers are none. Safe for concurrent use.
type strangers struct {
	mu    sync.Mutex
	names map[string]stranger // by memberlist's name
	// admitted are the hosts that the ledger knew then; nil: nothing was heard of it.
	admitted map[netmap.HostID]struct{}
}

type stranger struct {
	host  netmap.HostID
	since time.Time
}

// admits reports whether memberlist may accept a node. memberlist holds its locks, for which
// a goroutine that holds g.mu may wait. So admits uses what the ledger knew a while ago.
func (g *Gossip) admits(n *memberlist.Node) bool {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return false
	}
	s := &g.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, in := s.names[n.Name]; in {
		return true
	}
	if _, known := s.admitted[m.Host]; known || m.Host == g.cfg.Host {
		return true
	}
	if len(s.names) < maxStrangers || s.admitted == nil && len(s.names) < maxAtFirst {
		if s.names == nil {
			s.names = map[string]stranger{}
		}
		s.names[n.Name] = stranger{m.Host, time.Now()}
		return true
	}
	return false
}

// prune leaves out who is known to the ledger by now, and who is gone.
func (s *strangers) prune(now time.Time, admitted map[netmap.HostID]struct{}, alive func(name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted = admitted
	for name, one := range s.names {
		if _, known := admitted[one.host]; known || now.Sub(one.since) > ghostTime && !alive(name) {
			delete(s.names, name)
		}
	}
}
