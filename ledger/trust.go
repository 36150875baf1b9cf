package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Nobody on the network proves who he is, so nothing that cannot be undone follows from
// what somebody sends. A host remembers on its disk who keeps the ledger, and where. Only
// these, dialled there, can tell it that it was removed, that the ledger was recovered, or
// who keeps it now.

const (
	confirmWait = 1500 * time.Millisecond // for one round of questions
	confirmHops = 4                       // from former keepers to the present ones
	mostAsked   = 64                      // hosts in one confirmation
	refreshWait = 5 * time.Second         // between two looks at who keeps the ledger now
)

// Verdict is what the keepers say to a question.
type Verdict int

// Verdicts. Unknown means that no majority of the keepers answered the same.
const (
	Unknown Verdict = iota
	Denied
	Confirmed
)

// trusted are the keepers that this host believes, as they are on its disk.
type trusted struct {
	mu      sync.Mutex
	keepers []Peer
	looked  time.Time // when somebody looked last who they are
}

func (t *trusted) list() []Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.keepers)
}

// due reports whether to look again who the keepers are, at most once in a while.
func (t *trusted) due() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.looked) < refreshWait {
		return false
	}
	t.looked = time.Now()
	return true
}

// trust replaces the trusted keepers by the voters among some.
func (l *Ledger) trust(keepers []Peer) {
	voters := slices.DeleteFunc(slices.Clone(keepers), func(p Peer) bool { return !p.Voter || !p.Addr.IsValid() })
	slices.SortFunc(voters, func(a, b Peer) int { return compareID(a.ID, b.ID) })
	l.trusted.mu.Lock()
	changed := len(voters) > 0 && !slices.Equal(voters, l.trusted.keepers)
	if changed {
		l.trusted.keepers = voters
	}
	l.trusted.mu.Unlock()
	if changed && l.cfg.OnTrusted != nil {
		l.cfg.OnTrusted(voters)
	}
}

// Trusted lists the keepers that this host believes.
func (l *Ledger) Trusted() []Peer { return l.trusted.list() }

// heardOfKeepers takes in who the keepers are by somebody's answer. A host that trusts
// nobody yet believes it; any other asks those that it trusts.
func (l *Ledger) heardOfKeepers(keepers []Peer) {
	known := l.trusted.list()
	if len(known) == 0 {
		l.trust(keepers)
		return
	}
	news := slices.ContainsFunc(keepers, func(p Peer) bool {
		return p.Voter && !slices.ContainsFunc(known, func(k Peer) bool { return k.ID == p.ID && k.Addr == p.Addr })
	})
	if k := l.kept(); news && (k == nil || len(k.servers()) == 0) && l.trusted.due() {
		l.background(func(ctx context.Context) { l.refreshTrusted(ctx, keepers) })
	}
}

// background runs a task that Close waits for.
func (l *Ledger) background(task func(context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.opening.Go(func() { task(l.ctx) })
	}
}

// refreshTrusted looks who keeps the ledger now. Where none of the trusted keepers keeps
// it any more, nor can name others who do, those are believed that answer in their place.
func (l *Ledger) refreshTrusted(ctx context.Context, heard []Peer) {
	c := l.askKeepers(ctx, netmap.HostID{})
	switch now := c.voters(); {
	case len(now) > 0:
		l.trust(now)
	case len(heard) > 0:
		l.log.Warn("ledger: none of the keepers that this host knew keeps it any more; it believes those that decide now", "former", c.names(c.asked), "now", c.names(heard))
		l.trust(heard)
	}
}

// confirmation is what keepers and former keepers answer.
type confirmation struct {
	asked   []Peer
	answers map[netmap.HostID]testimony
}

// askKeepers asks the trusted keepers, and whom they name, about a host.
func (l *Ledger) askKeepers(ctx context.Context, about netmap.HostID) confirmation {
	c := confirmation{answers: map[netmap.HostID]testimony{}}
	next := l.trusted.list()
	switch k := l.kept(); {
	case k == nil && len(next) == 0: // a newcomer
		next = l.hearsay().Keepers
	case k != nil && len(k.servers()) == 0: // a keeper that was told nothing yet knows nothing
		next = append(next, k.inviter())
	case k != nil:
		c.answers[l.cfg.Self] = l.testify(about)
		next = append(next, k.peers()...)
	}
	for range confirmHops {
		next = c.unasked(next, l.cfg.Self)
		if len(next) == 0 || ctx.Err() != nil {
			break
		}
		c.asked = append(c.asked, next...)
		var named []Peer
		for id, t := range l.hearPeers(ctx, next, about) {
			if _, twice := c.answers[id]; !twice {
				c.answers[id] = t
			}
			named = append(append(named, t.Voters...), t.Trusted...)
		}
		next = named
	}
	return c
}

// unasked are those that were not asked yet, a bounded number.
func (c *confirmation) unasked(peers []Peer, self netmap.HostID) (out []Peer) {
	for _, p := range peers {
		same := func(o Peer) bool { return o.ID == p.ID && o.Addr == p.Addr }
		if p.ID == self || !p.Addr.IsValid() || slices.ContainsFunc(c.asked, same) || slices.ContainsFunc(out, same) || len(c.asked)+len(out) >= mostAsked {
			continue
		}
		out = append(out, p)
	}
	return out
}

// hearPeers asks some hosts at once, each at the address that is known of it.
func (l *Ledger) hearPeers(ctx context.Context, peers []Peer, about netmap.HostID) map[netmap.HostID]testimony {
	ctx, cancel := context.WithTimeout(ctx, confirmWait)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	out := map[netmap.HostID]testimony{}
	for _, p := range peers {
		all.Go(func() {
			t, err := l.askTestimony(ctx, p, about)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[p.ID] = t
		})
	}
	all.Wait()
	return out
}

func (l *Ledger) askTestimony(ctx context.Context, p Peer, about netmap.HostID) (testimony, error) {
	b, err := l.cfg.Underlay.Call(ctx, p.Addr, requestTestify, append(p.ID[:], about[:]...))
	if err != nil {
		return testimony{}, err
	}
	return decode[testimony](b, maxReply)
}

// best is the newest ledger that somebody keeps.
func (c *confirmation) best() (best testimony) {
	for _, id := range sortedKeys(c.answers) {
		if t := c.answers[id]; t.Keeps && (!best.Keeps || t.knows(best) > 0) {
			best = t
		}
	}
	return best
}

// voters are the keepers that are to be a majority now.
func (c *confirmation) voters() []Peer {
	return slices.DeleteFunc(slices.Clone(c.best().Voters), func(p Peer) bool { return !p.Voter })
}

// most reports whether more than half of the voters of the newest ledger say so.
func (c *confirmation) most(says func(testimony) bool) bool {
	voters, n := c.voters(), 0
	for _, p := range voters {
		if t, answers := c.answers[p.ID]; answers && t.Keeps && says(t) {
			n++
		}
	}
	return 2*n > len(voters)
}

func (c *confirmation) names(peers []Peer) string {
	var out []string
	for _, p := range peers {
		out = append(out, fmt.Sprintf("%s (%s)", p.ID.Short(), p.Addr))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// AskRemoved asks the keepers whether this host was removed from the cluster. Unknown
// comes with whom it asked.
func (l *Ledger) AskRemoved(ctx context.Context) (Verdict, error) {
	c := l.askKeepers(ctx, l.cfg.Self)
	switch {
	case c.most(func(t testimony) bool { return t.Removed }):
		return Confirmed, nil
	case c.most(func(t testimony) bool { return !t.Removed && t.Settled }):
		return Denied, nil
	}
	return Unknown, fmt.Errorf("ledger: no majority of the keepers that this host knows answers; it asked %s", c.names(c.asked))
}

// generationStep is how many recoveries a host may have missed.
const generationStep = 1 << 16

// plausible reports whether a generation may follow another one by recoveries.
func plausible(known, next uint64) bool { return next <= known || next>>32-known>>32 <= generationStep }

// AskGeneration asks the keepers whether the ledger was recovered, since somebody says
// that its generation is this one. It returns the newest one that is confirmed, and an
// error if that is older.
func (l *Ledger) AskGeneration(ctx context.Context, heard uint64) (uint64, error) {
	known := max(l.Generation(), 1)
	if heard <= known {
		return known, nil
	}
	c := l.askKeepers(ctx, netmap.HostID{})
	l.askOthers(ctx, &c)
	best := c.best().Generation
	if best > known && plausible(known, best) && c.most(func(t testimony) bool { return t.Generation == best }) {
		known = best
	}
	if known < heard {
		return known, fmt.Errorf("ledger: somebody says that its generation is %d, and no keeper that this host knows confirms that; it asked %s", heard, c.names(c.asked))
	}
	return known, nil
}

// askOthers asks those who say that they keep the ledger, where none of the keepers that
// this host knew does any more: they may all be gone, or the ledger was recovered elsewhere.
func (l *Ledger) askOthers(ctx context.Context, c *confirmation) {
	if !c.best().Keeps {
		maps.Copy(c.answers, l.hearPeers(ctx, c.unasked(l.hearsay().Keepers, l.cfg.Self), netmap.HostID{}))
	}
}

// vouch asks who the keepers are since a host that is none by this one's log wants a
// stream: this log may be behind.
func (l *Ledger) vouch(k *keeper, id netmap.HostID) {
	if !l.trusted.due() {
		return
	}
	l.background(func(ctx context.Context) {
		c := l.askKeepers(ctx, netmap.HostID{})
		l.askOthers(ctx, &c)
		best := c.best()
		for _, p := range best.Voters {
			if p.ID == id && best.Generation == k.generation {
				k.vouched.add(p)
			}
		}
	})
}

// atHome reports whether a host answers at one of its addresses.
func (l *Ledger) atHome(id netmap.HostID, places []netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(l.ctx, atHomeWait)
	defer cancel()
	for _, at := range places {
		if _, err := l.askTestimony(ctx, Peer{ID: id, Addr: at}, netmap.HostID{}); err == nil {
			return true
		}
	}
	return false
}

const atHomeWait = time.Second

// errStranger means that a host is no keeper.
var errStranger = errors.New("it is none of the keepers")

// peerSet is a small set of hosts and where they are.
type peerSet struct {
	mu    sync.Mutex
	peers []Peer
}

func (s *peerSet) add(p Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = append(s.peers[max(0, len(s.peers)-mostKeepers):], p)
}

func (s *peerSet) list() []Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.peers)
}
