package ledger

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// confirmation collects the answers of keepers and former keepers to one question.
type confirmation struct {
	asked   []netip.AddrPort
	answers map[netmap.HostID]report
	trusted []Peer
}

// ask asks the trusted keepers, and those that they name, about a host. If none of them keeps
// the ledger any more, it starts again from the addresses that the operator named.
func (t *trusted) ask(ctx context.Context, about netmap.HostID) *confirmation {
	c := &confirmation{answers: map[netmap.HostID]report{}, trusted: t.list()}
	next := addrsOf(c.trusted)
	switch k := t.host.kept(); {
	case k != nil && !k.current(): // the log ends in the past
		if i := k.invited.Load(); i != nil {
			next = append(next, i.By.Addr)
		}
	case k != nil:
		c.hear(t.host.report(about))
		next = append(next, addrsOf(k.peers())...)
	}
	t.askOn(ctx, c, next, about)
	t.note(c.best().keeps() || len(c.trusted) == 0)
	if !c.best().keeps() && t.cfg.Named != nil {
		t.askOn(ctx, c, t.cfg.Named(ctx), about)
	}
	return c
}

// askOn asks some hosts, then the keepers that these name, and so on.
func (t *trusted) askOn(ctx context.Context, c *confirmation, next []netip.AddrPort, about netmap.HostID) {
	for range confirmHops {
		next = c.unasked(next, t.cfg.Addr)
		if len(next) == 0 || ctx.Err() != nil {
			return
		}
		c.asked = append(c.asked, next...)
		heard := t.hearAt(ctx, next, about)
		next = nil
		for _, r := range heard {
			c.hear(r)
			next = append(next, addrsOf(append(r.Voters, r.Trusted...))...)
		}
	}
}

// hear records an answer. Where a copy of a host runs as well, the answer counts that comes
// from the machine which the ledger did not refuse.
func (c *confirmation) hear(t report) {
	if old, twice := c.answers[t.ID]; !twice || t.keeps() && (!old.keeps() || c.trusts(t) && !c.trusts(old)) {
		c.answers[t.ID] = t
	}
}

// trusts reports whether an answer came from the address at which this host knows a trusted
// keeper.
func (c *confirmation) trusts(t report) bool {
	return slices.ContainsFunc(c.trusted, func(p Peer) bool { return p.ID == t.ID && p.Addr == t.at })
}

// denied reports whether a trusted keeper says that a host was not removed. A keeper that says
// the opposite is then alone, or this one lags, perhaps behind a recovery, and will be asked
// again.
func (c *confirmation) denied() bool {
	for _, t := range c.answers {
		if c.trusts(t) && t.keeps() && t.AllApplied && !t.Removed {
			return true
		}
	}
	return false
}

// unasked returns the addresses that were not asked yet, up to a bound.
func (c *confirmation) unasked(addrs []netip.AddrPort, self netip.AddrPort) (out []netip.AddrPort) {
	for _, at := range addrs {
		if at.IsValid() && at != self && !slices.Contains(c.asked, at) && !slices.Contains(out, at) && len(c.asked)+len(out) < mostAsked {
			out = append(out, at)
		}
	}
	return out
}

func addrsOf(peers []Peer) []netip.AddrPort {
	out := make([]netip.AddrPort, len(peers))
	for i, p := range peers {
		out[i] = p.Addr
	}
	return out
}

// hearAt asks whoever is at some addresses, all at once. It leaves out those that do not
// answer.
func (t *trusted) hearAt(ctx context.Context, addrs []netip.AddrPort, about netmap.HostID) (out []report) {
	ctx, cancel := context.WithTimeout(ctx, confirmWait)
	defer cancel()
	answers := make(chan report, len(addrs))
	var all sync.WaitGroup
	for _, at := range addrs {
		all.Go(func() {
			if r, err := askReport(ctx, t.cfg.Underlay, at, about); err == nil {
				r.at = at
				answers <- r
			}
		})
	}
	all.Wait()
	close(answers)
	for r := range answers {
		out = append(out, r)
	}
	return out
}

func askReport(ctx context.Context, u Underlay, at netip.AddrPort, about netmap.HostID) (report, error) {
	b, err := u.Call(ctx, at, requestReport, about[:])
	if err != nil {
		return report{}, err
	}
	return state.Decode[report](b, state.MaxReply)
}

// keeps reports whether the host keeps the ledger and may speak for it: the ledger did not
// refuse it.
func (t report) keeps() bool { return t.Keeps && !t.Fenced }

// best returns the answer of the keeper with the newest ledger, zero if nobody keeps one.
func (c *confirmation) best() (best report) {
	for _, id := range slices.SortedFunc(maps.Keys(c.answers), netmap.ID.Compare) {
		if t := c.answers[id]; t.keeps() && (!best.Keeps || t.knows(best) > 0) {
			best = t
		}
	}
	return best
}

// voters returns the voting keepers of the newest ledger.
func (c *confirmation) voters() []Peer {
	return slices.DeleteFunc(slices.Clone(c.best().Voters), func(p Peer) bool { return !p.Voter })
}

// most reports whether more than half of the voters of the newest ledger gave an answer of
// which says is true.
func (c *confirmation) most(says func(report) bool) bool {
	voters, n := c.voters(), 0
	for _, p := range voters {
		if t, answers := c.answers[p.ID]; answers && t.keeps() && says(t) {
			n++
		}
	}
	return 2*n > len(voters)
}

// whom lists the addresses that were asked, for people.
func (c *confirmation) whom() string {
	if len(c.asked) == 0 {
		return "none"
	}
	out := make([]string, len(c.asked))
	for i, at := range c.asked {
		out[i] = at.String()
	}
	return strings.Join(out, ", ")
}
