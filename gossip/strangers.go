package gossip

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/netmap"
)

// How many members may be in the gossip. Anybody can invent hosts, and starts of hosts, and an
// exchange of memberlist's, which names them all, has a limit (maxNodes). A host that has
// heard nothing of the ledger yet knows none of them.
const (
	maxStrangers = 512          // that the ledger does not know
	maxAtFirst   = maxNodes / 2 // before the ledger is known
	maxStarts    = 128          // of one host that it knows, less if it knows many hosts
	fewStarts    = 2            // the one before, until it is found dead, and its successor
)

// strangers are the members that were admitted to the gossip. The zero value has none. Safe for
// concurrent use.
type strangers struct {
	mu    sync.Mutex
	names map[string]stranger // by memberlist's name
	// starts counts the names of each host.
	starts map[netmap.HostID]int
	// unknown counts the names of hosts that the ledger did not know when it was looked last.
	unknown int
	// admitted are the hosts that the ledger knew then; nil: nothing was heard of it.
	admitted map[netmap.HostID]struct{}
}

type stranger struct {
	host  netmap.HostID
	since time.Time
}

// fits reports whether one more start of a host may be admitted. The caller holds mu.
func (s *strangers) fits(host netmap.HostID, known bool) bool {
	if known {
		return s.starts[host] < max(fewStarts, min(maxStarts, maxAtFirst/max(1, len(s.admitted))))
	}
	return s.unknown < maxStrangers || s.admitted == nil && s.unknown < maxAtFirst
}

// admits returns why memberlist may not accept a node, or nil. memberlist holds its locks, for
// which a goroutine that holds g.mu may wait, so admits uses what the ledger knew at the last
// prune.
func (g *Gossip) admits(n *memberlist.Node) error {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return err
	}
	if n.Name != nodeName(m.Host, m.Nonce) {
		return fmt.Errorf("gossip: %.40q is not the name of its start: %w", n.Name, errUnsent)
	}
	s := &g.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, in := s.names[n.Name]; in {
		return nil
	}
	_, known := s.admitted[m.Host]
	known = known || m.Host == g.cfg.Host
	switch {
	case s.fits(m.Host, known):
	case known:
		return errRestless
	default:
		return errCrowded
	}
	if s.names == nil {
		s.names, s.starts = map[string]stranger{}, map[netmap.HostID]int{}
	}
	s.names[n.Name] = stranger{m.Host, time.Now()}
	s.starts[m.Host]++
	if !known {
		s.unknown++
	}
	return nil
}

var (
	errCrowded  = fmt.Errorf("is one of more than %d hosts that the ledger does not know: somebody invents them, or so many start at once; it is let in when others have been admitted or are gone", maxStrangers)
	errRestless = errors.New("is one of very many starts of its host within a minute: somebody invents them, or its agent ends again and again (see its log); it is let in when the earlier ones are gone")
)

// prune notes which hosts the ledger knows now, and drops nodes that are gone.
func (s *strangers) prune(now time.Time, admitted map[netmap.HostID]struct{}, alive func(name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted, s.unknown = admitted, 0
	clear(s.starts)
	for name, one := range s.names {
		if now.Sub(one.since) > ghostTime && !alive(name) {
			delete(s.names, name)
			continue
		}
		s.starts[one.host]++
		if _, known := admitted[one.host]; !known {
			s.unknown++
		}
	}
}
