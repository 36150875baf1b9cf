package discover

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Disk keeps records; Commit returns when they are synced.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// changesKey is where the changes are on disk.
const changesKey = "changes"

// maxConnected bounds the entries of weft connect.
const maxConnected = 64

// changes are what differs from WEFT_JOIN.
type changes struct {
	Connected []string `json:"connected,omitempty"`
	Forgotten []string `json:"forgotten,omitempty"`
}

// load reads the changes of an earlier start. If a forgotten entry is no longer in
// WEFT_JOIN, it stops being forgotten: the operator may add it again later.
func (p *Peers) load() error {
	if p.cfg.Disk == nil {
		return nil
	}
	kept, err := p.cfg.Disk.Load()
	if err != nil {
		return fmt.Errorf("discover: what weft connect changed cannot be loaded: %w", err)
	}
	if kept[changesKey] == nil {
		return nil
	}
	var c changes
	if err := json.Unmarshal(kept[changesKey], &c); err != nil {
		return fmt.Errorf("discover: what weft connect changed cannot be read; was it written by a newer release? %w", err)
	}
	for _, s := range p.sources {
		s.forgotten = slices.Contains(c.Forgotten, s.entry.String())
	}
	for _, text := range c.Connected {
		if index(p.sources, text) < 0 {
			s := p.source(text)
			s.connected = true
			p.sources = append(p.sources, s)
		}
	}
	return p.keep(p.sources)
}

// keep writes down what differs from WEFT_JOIN.
func (p *Peers) keep(sources []*source) error {
	if p.cfg.Disk == nil {
		return nil
	}
	var c changes
	for _, s := range sources {
		if s.connected {
			c.Connected = append(c.Connected, s.entry.String())
		} else if s.forgotten {
			c.Forgotten = append(c.Forgotten, s.entry.String())
		}
	}
	raw, err := json.Marshal(c)
	if err == nil { // it is made of texts
		err = p.cfg.Disk.Commit(map[string][]byte{changesKey: raw})
	}
	if err != nil {
		return fmt.Errorf("discover: the peers cannot be written down: %w", err)
	}
	return nil
}

// Connect adds an entry, or uses a forgotten one again. It returns a sentence about what it
// did.
func (p *Peers) Connect(ctx context.Context, text string) (string, error) {
	e, err := Parse(text, p.cfg.Self.Port())
	if err != nil {
		return "", fmt.Errorf("%w; give %s", err, Wants)
	}
	return p.change(ctx, func(sources []*source) ([]*source, string, error) {
		i, connected := index(sources, e.String()), 0
		for _, s := range sources {
			if s.connected {
				connected++
			}
		}
		switch {
		case i >= 0 && sources[i].forgotten:
			sources[i] = p.source(e.String())
			return sources, e.String() + " is a peer again", nil
		case i >= 0:
			return sources, e.String() + " is a peer already", nil
		case connected >= maxConnected:
			return nil, "", fmt.Errorf("this host has %d peers by weft connect already; weft forget one that it does not need: any live host of the cluster leads to all", connected)
		}
		s := p.source(e.String())
		s.connected = true
		return append(sources, s), e.String() + " is a peer now; weft status shows what it leads to", nil
	})
}

// Forget drops an entry. An entry of WEFT_JOIN is not tried until Connect names it again,
// also after a restart. Forget returns a sentence about what it did.
func (p *Peers) Forget(ctx context.Context, text string) (string, error) {
	name := strings.TrimSpace(text)
	if e, err := Parse(text, p.cfg.Self.Port()); err == nil {
		name = e.String()
	}
	return p.change(ctx, func(sources []*source) ([]*source, string, error) {
		switch i := index(sources, name); {
		case i < 0:
			return nil, "", fmt.Errorf("%s is none of this host's peers: %s; give one of them, or remove a host from the cluster with weft host rm", name, names(sources))
		case sources[i].connected:
			return slices.Delete(sources, i, i+1), name + " is forgotten", nil
		default:
			next := *sources[i]
			next.forgotten, next.asking = true, false
			sources[i] = &next
			return sources, name + " is forgotten, although WEFT_JOIN names it; weft connect takes it up again", nil
		}
	})
}

// change writes the entries to disk before they take effect.
func (p *Peers) change(ctx context.Context, edit func([]*source) ([]*source, string, error)) (string, error) {
	end, err := p.editing.WaitWithin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	p.mu.Lock()
	sources := slices.Clone(p.sources)
	next, text, err := edit(sources)
	p.mu.Unlock()
	if err == nil {
		err = p.keep(next)
	}
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sources = next
	return text, nil
}

func index(sources []*source, text string) int {
	return slices.IndexFunc(sources, func(s *source) bool { return s.entry.String() == text })
}

func names(sources []*source) string {
	var out []string
	for _, s := range sources {
		out = append(out, s.entry.String())
	}
	if len(out) == 0 {
		return "it has none"
	}
	return strings.Join(out, ", ")
}
