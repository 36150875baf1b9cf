package underlay

import (
	"net/netip"
	"slices"
	"sync"
)

// Limits of the streams of one kind that are open at once. A keeper has about eight to
// each other one, raft takes 256 KiB for each; an exchange of gossip's takes 2 MiB.
const (
	maxOpen     = 64
	maxOpenFrom = 16 // from one source
)

// openStreams are the streams of a kind that their package has. There is always room for one
// more: too many of one source cost this source its oldest, too many in all cost the
// source that has the most its oldest. So whoever opens streams without end closes its
// own. Safe for concurrent use.
type openStreams struct {
	mu   sync.Mutex
	open []*guest // in the order in which they came
}

// enter takes a stream in, and returns the one that must be closed for it: nil, or even
// the stream itself, when no source has more than its own.
func (c *openStreams) enter(g *guest) (goes *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, g)
	count, most := map[netip.Prefix]int{}, 0
	for _, o := range c.open {
		count[o.from]++
		most = max(most, count[o.from])
	}
	mine := count[g.from]
	if mine <= maxOpenFrom && len(c.open) <= maxOpen {
		return nil
	}
	i := slices.IndexFunc(c.open, func(o *guest) bool {
		if mine > maxOpenFrom || mine == most {
			return o.from == g.from
		}
		return count[o.from] == most
	})
	goes = c.open[i]
	c.open = slices.Delete(c.open, i, i+1)
	return goes
}

// leave takes a stream out, and reports whether it was in.
func (c *openStreams) leave(g *guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.open, g)
	if i < 0 {
		return false
	}
	c.open = slices.Delete(c.open, i, i+1)
	return true
}
