// Package discover finds the hosts that entries such as those of WEFT_JOIN stand for:
// by name, by DNS, from Mesos, from Marathon, or from a command. Each entry is looked
// up again and again. Its result is a list of addresses to try; the caller has to check
// who answers there.
package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/turn"
)

// Bounds of what an entry may take and give.
const (
	askFirst    = time.Second      // between two look-ups of an entry, doubling while its answer is the same
	nameSlowest = 15 * time.Second // of names
	askSlowest  = time.Minute      // of masters and commands, to which all hosts turn
	askTimeout  = 10 * time.Second
	maxHosts    = 1024 // of one entry
)

// Config says whose peers are looked for.
type Config struct {
	Join []string       // the entries of WEFT_JOIN
	Self netip.AddrPort // where others reach this host; its port is for entries that name none
	// Root is where the host's root directory is seen, inside the managed plugin; a
	// command runs in the host's own. Empty: this process is the host's.
	Root     string
	Resolver *net.Resolver // nil: the system's
	Disk     Disk          // keeps what Connect and Forget changed; nil: nothing does
	Log      *slog.Logger  // nil: silent
}

// Peers has the entries of one host. Its methods are safe for concurrent use.
type Peers struct {
	cfg     Config
	editing turn.Turn // held while entries change, disk included

	mu      sync.Mutex
	sources []*source
}

// source is an entry and its results. Peers.mu guards the fields after fixed.
type source struct {
	entry     Entry
	connected bool // by weft connect; else it is of WEFT_JOIN
	forgotten bool
	fixed     bool // there is nothing to look up

	asking bool
	wait   time.Duration // until the next look-up
	due    time.Time
	last   answer
	at     time.Time // of the last look-up that gave an address
}

// answer is the result of a look-up.
type answer struct {
	addrs   []netip.AddrPort // sorted, none twice
	stale   bool             // addrs are of an earlier look-up, this one gave none
	missing []string         // hosts without an address, where there are several
	part    bool             // there are hosts of which nothing is known yet
	err     error            // why nothing was found, or the first of missing was not
}

// Open reads what weft connect and weft forget changed in an earlier start. An entry that
// cannot be parsed gives no address, and an error.
func Open(cfg Config) (*Peers, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	p := &Peers{cfg: cfg, editing: turn.New()}
	for _, text := range cfg.Join {
		p.sources = append(p.sources, p.source(text))
	}
	return p, p.load()
}

// source makes a source. If there is nothing to look up it has its answer already.
func (p *Peers) source(text string) *source {
	e, err := Parse(text, p.cfg.Self.Port())
	if err != nil {
		return &source{entry: Entry{text: text}, fixed: true, last: answer{err: err}}
	}
	s := &source{entry: e}
	if _, err := netip.ParseAddr(e.host); err == nil {
		s.last.addrs, s.last.err = p.addresses(context.Background(), e, e) // it asks nobody
		s.fixed, s.at = true, time.Now()
	}
	return s
}

// None reports whether there is no entry.
func (p *Peers) None() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(p.sources, func(s *source) bool { return !s.forgotten })
}

// Addrs returns all addresses where a peer may be. It first looks up the entries that are
// due, and returns within the time limit of one look-up. For an entry that is not found
// any more it returns the last result.
func (p *Peers) Addrs(ctx context.Context) []netip.AddrPort {
	var out []netip.AddrPort
	p.each(ctx, func(s *source) bool { return !s.forgotten }, func(s *source) {
		out = append(out, s.last.addrs...)
	})
	return out
}

// Seeds returns the addresses of each entry of WEFT_JOIN, forgotten or not, for founding
// together. A host that is not found is in the result without an address, since it counts, and so is an entry of
// which not all hosts are known yet.
func (p *Peers) Seeds(ctx context.Context) map[string][]netip.AddrPort {
	out := map[string][]netip.AddrPort{}
	p.each(ctx, func(s *source) bool { return !s.connected }, func(s *source) {
		name, addrs := s.entry.String(), slices.Clone(s.last.addrs)
		if s.last.stale || s.last.part {
			addrs = nil
		}
		if len(addrs) > 0 || len(s.last.missing) == 0 {
			out[name] = addrs
		}
		for _, m := range s.last.missing {
			out[name+" ("+m+")"] = nil
		}
	})
	return out
}

// each looks up, concurrently, the wanted entries that are due and that no other caller is
// looking up. Then it visits the wanted ones under p.mu.
func (p *Peers) each(ctx context.Context, wanted func(*source) bool, visit func(*source)) {
	var asked sync.WaitGroup
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sources {
		if !wanted(s) || s.asking || s.fixed || time.Now().Before(s.due) {
			continue
		}
		s.asking = true
		asked.Go(func() {
			a := p.lookup(ctx, s.entry)
			p.mu.Lock()
			defer p.mu.Unlock()
			s.asking = false
			if ctx.Err() == nil { // else it says nothing about the entry
				p.note(s, a)
			}
		})
	}
	p.mu.Unlock()
	asked.Wait()
	p.mu.Lock()
	for _, s := range p.sources {
		if wanted(s) {
			visit(s)
		}
	}
}

// note stores the result of a look-up, and logs once that an entry gives nothing. Under
// p.mu.
func (p *Peers) note(s *source, a answer) {
	was := s.last
	if len(a.addrs) > 0 {
		s.at = time.Now()
	} else if a.err != nil {
		a.addrs, a.stale = was.addrs, true
	}
	s.last = a
	if s.wait = min(2*s.wait, s.entry.slowest()); s.wait == 0 || !slices.Equal(a.addrs, was.addrs) {
		s.wait = askFirst
	}
	s.due = time.Now().Add(s.wait*3/4 + rand.N(s.wait/2))
	switch {
	case a.err != nil && was.err == nil:
		p.cfg.Log.Warn("discover: peers cannot be found; trying on", "peer", s.entry, "err", a.err)
	case a.err == nil && was.err != nil:
		p.cfg.Log.Info("discover: peers are found again", "peer", s.entry, "hosts", len(a.addrs))
	}
}

// slowest is the longest time between two look-ups of an entry.
func (e Entry) slowest() time.Duration {
	if e.url != nil || e.form == execForm {
		return askSlowest
	}
	return nameSlowest
}

// lookup finds the hosts of an entry, within askTimeout.
func (p *Peers) lookup(ctx context.Context, e Entry) answer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var hosts []Entry
	var absent int
	var err error
	switch e.form {
	case srvForm:
		hosts, err = p.services(ctx, e.host)
	case mesosForm:
		hosts, absent, err = p.agents(ctx, e)
	case marathonForm:
		hosts, err = p.appHosts(ctx, e)
	case execForm:
		hosts, err = p.output(ctx, e)
	default:
		hosts = []Entry{e}
	}
	if err != nil {
		return answer{err: oneLine(err)}
	}
	a := p.resolve(ctx, e, hosts)
	if absent > 0 {
		a.part, a.err = true, fmt.Errorf("the master was elected a moment ago, and %d agents have not registered with it yet", absent)
	}
	return a
}

// Found is an entry and its last result, for the status.
type Found struct {
	Entry     string
	Connected bool             // by weft connect; else it is of WEFT_JOIN
	Forgotten bool             // by weft forget: not tried
	Addrs     []netip.AddrPort // what it gave last
	At        time.Time        // and when; zero: never
	Err       error            // of the last look-up
}

// Report lists the entries in their order.
func (p *Peers) Report() []Found {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Found, 0, len(p.sources))
	for _, s := range p.sources {
		out = append(out, Found{s.entry.String(), s.connected, s.forgotten, slices.Clone(s.last.addrs), s.at, s.last.err})
	}
	return out
}

// maxError bounds the text of an error, in bytes, as other hosts may have written it.
const maxError = 300

func oneLine(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return errors.New(text[:min(len(text), maxError)])
}
