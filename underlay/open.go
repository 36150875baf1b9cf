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

// openStreams are the streams of a kind that were handed over and are open. A new stream is
// always accepted: if its source has too many, the oldest of that source is closed; if
// there are too many in all, the oldest of the source that has the most. So a source that
// keeps opening streams closes its own. Safe for concurrent use.
type openStreams struct {
	mu   sync.Mutex
	open streams
}

// streams are in the order in which they came.
type streams []*pendingConn

// bySource counts the streams of each source. Most is the greatest of these counts.
func (s streams) bySource() (count map[netip.Prefix]int, most int) {
	count = map[netip.Prefix]int{}
	for _, g := range s {
		count[g.from]++
		most = max(most, count[g.from])
	}
	return count, most
}

// remove removes a stream, and reports whether it was there.
func (s *streams) remove(g *pendingConn) bool {
	i := slices.Index(*s, g)
	if i >= 0 {
		*s = slices.Delete(*s, i, i+1)
	}
	return i >= 0
}

// enter adds a stream and returns the one that the caller must close for it: nil if there
// is none, and the stream itself if no source has more streams than its own.
func (c *openStreams) enter(g *pendingConn) (goes *pendingConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, g)
	count, most := c.open.bySource()
	mine := count[g.from]
	if mine <= maxOpenFrom && len(c.open) <= maxOpen {
		return nil
	}
	i := slices.IndexFunc(c.open, func(o *pendingConn) bool {
		if mine > maxOpenFrom || mine == most {
			return o.from == g.from
		}
		return count[o.from] == most
	})
	goes = c.open[i]
	c.open.remove(goes)
	return goes
}

// leave removes a stream, and reports whether it was there.
func (c *openStreams) leave(g *pendingConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open.remove(g)
}
