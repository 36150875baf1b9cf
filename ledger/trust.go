package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/netmap"
)

// Nobody on the network proves who he is, so no message alone makes a host do what cannot be
// undone. A host remembers on its disk who keeps the ledger, and where. It dials these keepers
// to learn whether it was removed, whether the ledger was recovered, and who keeps it now.

const (
	confirmWait = 1500 * time.Millisecond // for one round of questions
	confirmHops = 4                       // from former keepers to the present ones
	mostAsked   = 64                      // hosts in one confirmation
	refreshWait = 5 * time.Second         // between two looks at who keeps the ledger now
)

// Answer is the answer of the keepers to a question.
type Answer int

// The answers. Unknown means that no majority of the keepers answered the same.
const (
	Unknown Answer = iota
	Denied
	Confirmed
)

// trusting is the host that trusts the keepers.
type trusting interface {
	kept() *keeper // nil: it keeps nothing
	report(about netmap.HostID) report
	background(task func(context.Context)) // until the host is closed
}

// trusted has the keepers that this host believes, as they are on its disk, and asks them.
type trusted struct {
	cfg  *Config
	log  *slog.Logger
	host trusting

	mu      sync.Mutex
	keepers []Peer
	looked  time.Time // when somebody looked last who they are
	gone    bool      // none of them was where it was known to be, when they were asked last
}

// note records whether one of the keepers that were asked keeps the ledger.
func (t *trusted) note(found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = !found
}

// problem returns what to do if no trusted keeper is found, empty if one is.
func (t *trusted) problem() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.gone {
		return ""
	}
	at := make([]string, len(t.keepers))
	for i, p := range t.keepers {
		at[i] = p.Addr.String()
	}
	return fmt.Sprintf("the keepers of the ledger that this host knows are not where they were: %s; until one is, it neither keeps the ledger nor believes that anybody was removed; "+
		"if they moved, name one where it is now (weft connect HOST)", strings.Join(at, ", "))
}

func (t *trusted) list() []Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.keepers)
}

// due reports whether it is time to ask again who the keepers are.
func (t *trusted) due() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.looked) < refreshWait {
		return false
	}
	t.looked = time.Now()
	return true
}

// replace replaces the trusted keepers by the voters among some.
func (t *trusted) replace(keepers []Peer) {
	voters := slices.DeleteFunc(slices.Clone(keepers), func(p Peer) bool { return !p.Voter || !p.Addr.IsValid() })
	slices.SortFunc(voters, func(a, b Peer) int { return a.ID.Compare(b.ID) })
	t.mu.Lock()
	changed := len(voters) > 0 && !slices.Equal(voters, t.keepers)
	if changed {
		t.keepers = voters
	}
	t.mu.Unlock()
	if changed && t.cfg.OnTrusted != nil {
		t.cfg.OnTrusted(voters)
	}
}

// addLog trusts the keepers that this keeper's log names, once the log has caught up.
func (t *trusted) addLog(k *keeper) {
	if !k.current() {
		return
	}
	t.replace(k.peers())
	if err := k.arrived(); err != nil {
		t.log.Warn("ledger: this keeper is up to date, and could not write that down; trying again", "err", err)
	}
}

// heardOf records who the keepers are by somebody's answer. A host that trusts nobody yet
// believes it. Any other host asks the keepers that it trusts.
func (t *trusted) heardOf(keepers []Peer) {
	known := t.list()
	if len(known) == 0 {
		t.replace(keepers)
		return
	}
	news := slices.ContainsFunc(keepers, func(p Peer) bool {
		return p.Voter && !slices.ContainsFunc(known, func(k Peer) bool { return k.ID == p.ID && k.Addr == p.Addr })
	})
	if !news {
		t.note(true)
	}
	if k := t.host.kept(); news && (k == nil || !k.current()) {
		t.refresh()
	}
}

// announced records which hosts say that they keep the ledger. If one of them is not trusted
// yet, this host asks those that it trusts: a host that never asks for a decision must still
// know today's keepers when most of them are lost.
func (t *trusted) announced(keepers []netmap.HostID) {
	known := t.list()
	if len(known) > 0 && t.host.kept() == nil && slices.ContainsFunc(keepers, func(id netmap.HostID) bool {
		return !slices.ContainsFunc(known, func(p Peer) bool { return p.ID == id })
	}) {
		t.refresh()
	}
}

// refresh asks the trusted keepers who keeps the ledger now, unless that was done
// a moment ago.
func (t *trusted) refresh() {
	if t.due() {
		t.host.background(func(ctx context.Context) {
			c := t.ask(ctx, netmap.HostID{})
			if len(c.trusted) == 0 { // nobody is known: whom the gossip names is the first to be believed
				t.askOn(ctx, c, addrsOf(t.cfg.announced()), netmap.HostID{})
			}
			t.replace(c.voters())
		})
	}
}

// vouch asks who the keepers are, because a host wants a stream that is no keeper by this log:
// the log may be behind.
func (t *trusted) vouch(k *keeper, id netmap.HostID) {
	if !t.due() {
		return
	}
	t.host.background(func(ctx context.Context) {
		c := t.ask(ctx, netmap.HostID{})
		best := c.best()
		for _, p := range best.Voters {
			if p.ID == id && best.Generation == k.generation {
				k.vouched.add(p)
			}
		}
	})
}

// atHome reports whether a host answers at one of its addresses, and the ledger has not
// refused it there.
func (t *trusted) atHome(ctx context.Context, id netmap.HostID, places []netip.AddrPort) bool {
	return slices.ContainsFunc(t.hearAt(ctx, places, netmap.HostID{}), func(r report) bool { return r.ID == id && !r.Fenced })
}

// Trusted lists the keepers that this host believes.
func (l *Ledger) Trusted() []Peer { return l.trusted.list() }

// Announced takes in which hosts say that they keep the ledger.
func (l *Ledger) Announced(keepers []netmap.HostID) { l.trusted.announced(keepers) }

// background runs a task that Close waits for.
func (l *Ledger) background(task func(context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.opening.Go(func() { task(l.ctx) })
	}
}

// AskRemoved asks the keepers whether this host was removed from the cluster. Unknown
// comes with whom it asked.
func (l *Ledger) AskRemoved(ctx context.Context) (Answer, error) {
	c := l.trusted.ask(ctx, l.cfg.Self)
	switch {
	case !c.denied() && c.most(func(t report) bool { return t.Removed }):
		return Confirmed, nil
	case c.most(func(t report) bool { return !t.Removed && t.AllApplied }):
		return Denied, nil
	}
	return Unknown, fmt.Errorf("ledger: no majority of the keepers that this host knows answers; it asked %s", c.whom())
}

// generationStep is how many recoveries a host may have missed.
const generationStep = 1 << 16

// plausible reports whether recoveries may lead from one generation to another one.
func plausible(known, next uint64) bool { return next <= known || next>>32-known>>32 <= generationStep }

// AskGeneration asks the keepers whether the ledger was recovered, since somebody says
// that its generation is this one. It returns the newest one that is confirmed, and an
// error if that is older.
func (l *Ledger) AskGeneration(ctx context.Context, heard uint64) (uint64, error) {
	known := max(l.Generation(), 1)
	if heard <= known {
		return known, nil
	}
	c := l.trusted.ask(ctx, netmap.HostID{})
	best := c.best().Generation
	if best > known && plausible(known, best) && c.most(func(t report) bool { return t.Generation == best }) {
		known = best
	}
	if known < heard {
		return known, fmt.Errorf("ledger: somebody says that its generation is %d, and no keeper that this host knows confirms that; it asked %s", heard, c.whom())
	}
	return known, nil
}

// errStranger means that a host is no keeper.
var errStranger = errors.New("it is none of the keepers")

// peerSet is a small set of hosts and their addresses.
type peerSet struct {
	mu    sync.Mutex
	peers []Peer
}

func (s *peerSet) add(p Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = append(s.peers[max(0, len(s.peers)-founding.MostKeepers):], p)
}

func (s *peerSet) list() []Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.peers)
}
