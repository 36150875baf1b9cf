// Package paths notices what gets lost without a word on the way to another host: packets that are larger than
// something between the two carries, where the ICMP message about it is lost too. Names and gossip work then,
// connections are opened, and what carries data hangs.
package paths

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

const (
	// Every is how often a way to one of the other hosts is checked, one host after the other.
	Every = 6991 * time.Millisecond
	// arrival bounds one request. TCP has repeated its packets some four times by then.
	arrival = 4 * time.Second
	// least is what every path of IPv6 carries, and the smallest size that is looked for, in bytes.
	least = 1280
	// named is how many hosts the problem names.
	named = 3
)

// Config says whose ways are checked.
type Config struct {
	Self netmap.HostID
	View func() *netmap.View
	// Alive has the hosts that answer.
	Alive func() map[netmap.HostID]bool
	// MTU is the size of the largest packets that this host sends to others, bytes.
	MTU func() int
	// Arrives sends another host so many bytes in packets of a size at most, and reports whether they arrive.
	Arrives func(ctx context.Context, to netip.AddrPort, size, bytes int) bool
	// Carries is told the size of the largest packets that reach all hosts; 0: all that this host sends do.
	Carries func(size int)
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
}

// Paths are the ways to the other hosts. Run is called once.
type Paths struct {
	cfg    Config
	last   netmap.HostID // that was checked in its turn
	narrow map[netmap.HostID]narrow
	again  bool // the next check is of a narrow way
}

// peer is another host.
type peer struct {
	id   netmap.HostID
	name string
	at   netip.AddrPort // of its agent, on the underlay
}

// narrow is a way on which large packets were lost.
type narrow struct {
	peer    peer
	times   int // that in a row
	carries int // bytes; 0: it may have been chance
}

// New makes the paths of a host, which Run checks.
func New(cfg Config) *Paths { return &Paths{cfg: cfg, narrow: map[netmap.HostID]narrow{}} }

// Run checks one way after the other until ctx ends.
func (p *Paths) Run(ctx context.Context) {
	for turn.Sleep(ctx, Every) {
		if next, ok := p.next(p.peers()); ok {
			p.check(ctx, next)
		}
		if ctx.Err() == nil {
			p.tell()
		}
	}
}

// peers are the other hosts that answer, by their ids. What is known about hosts that are no more is forgotten.
func (p *Paths) peers() (out []peer) {
	view, alive, known := p.cfg.View(), p.cfg.Alive(), map[netmap.HostID]bool{}
	for _, h := range view.Hosts {
		if at := h.Fact.Underlay; h.ID != p.cfg.Self && h.IsMember() && at.IsValid() {
			known[h.ID] = true
			if alive[h.ID] {
				out = append(out, peer{h.ID, view.HostName(h.ID), at})
			}
		}
	}
	maps.DeleteFunc(p.narrow, func(id netmap.HostID, _ narrow) bool { return !known[id] })
	return out
}

// next is the host whose turn it is. Every other check is of a way on which something was lost, if there is one:
// with many hosts its turn would come late.
func (p *Paths) next(peers []peer) (peer, bool) {
	p.again = !p.again
	if p.again {
		for _, one := range peers {
			if _, ok := p.narrow[one.id]; ok {
				return one, true
			}
		}
	}
	if len(peers) == 0 {
		return peer{}, false
	}
	at := slices.IndexFunc(peers, func(o peer) bool { return o.id.Compare(p.last) > 0 })
	next := peers[max(at, 0)]
	p.last = next.id
	return next, true
}

// check sends a host large packets. Only if they are lost, small ones arrive, and both happen again, it is no chance.
func (p *Paths) check(ctx context.Context, to peer) {
	mtu := p.cfg.MTU()
	switch {
	case p.passes(ctx, to, mtu):
		delete(p.narrow, to.id)
	case p.passes(ctx, to, least) && !p.passes(ctx, to, mtu) && ctx.Err() == nil:
		was := p.narrow[to.id]
		was.peer, was.times = to, was.times+1
		known := was.carries > 0 && was.carries < mtu && p.passes(ctx, to, was.carries)
		if was.times > 1 && !known {
			was.carries = p.largest(ctx, to, mtu)
		}
		p.narrow[to.id] = was
	}
}

// passes reports whether packets of a size reach a host: two that are full.
func (p *Paths) passes(ctx context.Context, to peer, size int) bool {
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	return p.cfg.Arrives(ctx, to.at, size, 2*size)
}

// largest searches the size of the largest packets that pass, which is below one that does not.
func (p *Paths) largest(ctx context.Context, to peer, lost int) int {
	passes := least
	for lost-passes > 1 && ctx.Err() == nil {
		if middle := (passes + lost) / 2; p.passes(ctx, to, middle) {
			passes = middle
		} else {
			lost = middle
		}
	}
	return passes
}

// tell passes on what the narrowest way carries, and shows what to do about it.
func (p *Paths) tell() {
	found := slices.DeleteFunc(slices.Collect(maps.Values(p.narrow)), func(n narrow) bool { return n.carries == 0 })
	if len(found) == 0 {
		p.cfg.Carries(0)
		p.cfg.Problem("mtu", "")
		return
	}
	slices.SortFunc(found, func(a, b narrow) int {
		return cmp.Or(cmp.Compare(a.carries, b.carries), a.peer.id.Compare(b.peer.id))
	})
	p.cfg.Carries(found[0].carries)
	p.cfg.Problem("mtu", sentence(found))
}

// sentence says what happens on narrow ways, the narrowest first, and what to do.
func sentence(found []narrow) string {
	var hosts []string
	for _, n := range found[:min(len(found), named)] {
		hosts = append(hosts, fmt.Sprintf("%s (%s) only up to %d bytes", n.peer.name, n.peer.at.Addr(), n.carries))
	}
	if more := len(found) - named; more > 0 {
		hosts = append(hosts, fmt.Sprintf("%d hosts more", more))
	}
	mtu := found[0].carries - datapath.Overhead(found[0].peer.at.Addr())
	return fmt.Sprintf("packets of this host reach %s: something on the way drops larger ones and does not say so. Containers that are started from now on get an MTU of %d; "+
		"start those again that run, and have the way carry more, or set WEFT_MTU=%d on all hosts", strings.Join(hosts, ", "), mtu, mtu)
}
