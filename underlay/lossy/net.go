package lossy

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Figures of the simulated stacks.
const (
	BreakAfter = 150 * time.Second      // a cut this long breaks a stream (Go's keep-alive default)
	retransmit = 200 * time.Millisecond // a lost segment or SYN is tried again after this
	sendBuffer = 256 << 10              // bytes in flight per direction of a stream
	recvQueue  = 1024                   // datagrams a socket holds; more are lost
	backlog    = 128                    // streams a listener holds; more are reset
)

// Link is the quality of one direction between two hosts.
type Link struct {
	Loss   float64       // chance that a datagram or segment is lost, 0 to 1
	Double float64       // chance that a datagram arrives twice
	Delay  time.Duration // one way
	Jitter time.Duration // up to this much more, which reorders datagrams
}

// Stats counts what was met, so that a simulation can show that its faults were
// real.
type Stats struct {
	Sent, Lost, Doubled, Delivered, Overflowed, Cut uint64 // datagrams
	Dials, Refused, Broken                          uint64 // streams
}

type direction struct{ from, to netip.Addr }

// Net is one network. All methods are safe for concurrent use.
type Net struct {
	seed uint64

	mu      sync.Mutex
	quality Link
	special map[direction]Link
	cut     map[direction]bool
	chance  map[direction]*rand.Rand
	hosts   map[netip.Addr]*Host
	conns   map[*pair]struct{}
	stats   Stats
}

// New makes a network without hosts whose links are all of one quality.
func New(seed uint64, quality Link) *Net {
	return &Net{
		seed: seed, quality: quality, special: map[direction]Link{}, cut: map[direction]bool{},
		chance: map[direction]*rand.Rand{}, hosts: map[netip.Addr]*Host{}, conns: map[*pair]struct{}{},
	}
}

// Host is the network stack of one host; asking again gives the same one.
func (n *Net) Host(addr netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[addr]
	if h == nil {
		h = &Host{net: n, addr: addr, powered: true, packets: map[uint16]*socket{}, listeners: map[uint16]*listener{}, nextPort: 32768}
		n.hosts[addr] = h
	}
	return h
}

// SetLink gives one direction a quality of its own.
func (n *Net) SetLink(from, to netip.Addr, q Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.special[direction{from, to}] = q
}

// CutOneWay loses everything from one host to another.
func (n *Net) CutOneWay(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[direction{from, to}] = true
	n.watchCuts()
}

// Cut loses everything between two hosts.
func (n *Net) Cut(a, b netip.Addr) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// Heal undoes CutOneWay in both directions.
func (n *Net) Heal(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, direction{a, b})
	delete(n.cut, direction{b, a})
	n.watchCuts()
}

// Split cuts a group of hosts off from all others, which may be added later.
func (n *Net) Split(group ...netip.Addr) {
	inside := map[netip.Addr]bool{}
	for _, a := range group {
		inside[a] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for a := range n.hosts {
		for b := range n.hosts {
			if inside[a] != inside[b] {
				n.cut[direction{a, b}] = true
			}
		}
	}
	n.watchCuts()
}

// HealAll undoes all cuts. Hosts without power stay so.
func (n *Net) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	n.watchCuts()
}

// Stats is a copy of the counters.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// passes reports whether anything gets from one host to another. Under n.mu.
func (n *Net) passes(from, to netip.Addr) bool {
	a, b := n.hosts[from], n.hosts[to]
	return a != nil && b != nil && a.powered && b.powered && !n.cut[direction{from, to}]
}

// draw decides the fate of one datagram or segment. Under n.mu.
func (n *Net) draw(from, to netip.Addr) (lost, doubled bool, delay, second time.Duration) {
	d := direction{from, to}
	q, ok := n.special[d]
	if !ok {
		q = n.quality
	}
	r := n.chance[d]
	if r == nil {
		r = rand.New(rand.NewPCG(n.seed, hashOf(d)))
		n.chance[d] = r
	}
	lost, doubled = r.Float64() < q.Loss, r.Float64() < q.Double
	jitter := func() time.Duration { return time.Duration(r.Float64() * float64(q.Jitter)) }
	return lost, doubled, q.Delay + jitter(), q.Delay + jitter()
}

func hashOf(d direction) uint64 {
	h := fnv.New64a()
	a, b := d.from.As16(), d.to.As16()
	_, _ = h.Write(append(a[:], b[:]...)) // never fails (hash.Hash)
	return h.Sum64()
}

// watchCuts starts or stops the clock of every stream whose path has changed.
// Under n.mu.
func (n *Net) watchCuts() {
	for c := range n.conns {
		c.watch()
	}
}
