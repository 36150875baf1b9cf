package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// zoneTries times zoneTimeout is how long a zone's server may take.
	zoneTries   = 2
	zoneTimeout = time.Second
	// deadFor is how long no client waits for a server that gave no reply. Behind it, one query
	// at a time tries whether there is one.
	deadFor = 3 * time.Second
)

// Zones are the zones that other servers answer, asked from the host's network namespace.
type Zones struct{ zones []*zone }

type zone struct {
	name    string // with the dot at its end
	servers []*zoneServer
}

// NewZones makes Zones from their names and servers, which are asked in this order.
func NewZones(table map[string][]netip.AddrPort) *Zones {
	zs := &Zones{}
	for name, servers := range table {
		z := &zone{name: mdns.Fqdn(strings.ToLower(name))}
		for _, at := range servers {
			z.servers = append(z.servers, &zoneServer{at: at})
		}
		zs.zones = append(zs.zones, z)
	}
	slices.SortFunc(zs.zones, func(a, b *zone) int { // the longest suffix first
		return cmp.Or(mdns.CountLabel(b.name)-mdns.CountLabel(a.name), strings.Compare(a.name, b.name))
	})
	return zs
}

// find returns the zone that a name is in, nil for none.
func (zs *Zones) find(name string) *zone {
	if zs == nil {
		return nil
	}
	for _, z := range zs.zones {
		if mdns.IsSubDomain(z.name, name) {
			return z
		}
	}
	return nil
}

// Problem names the servers that do not answer, with their zones. It is empty if all answer or
// were not asked.
func (zs *Zones) Problem() string {
	var problems []string
	for _, z := range zs.zones {
		for _, s := range z.servers {
			if err := s.problem(); err != nil {
				problems = append(problems, fmt.Sprintf("%s, server of the zone %s, does not answer: %v", s.at, strings.TrimSuffix(z.name, "."), err))
			}
		}
	}
	return strings.Join(problems, "; ")
}

// exchange asks the zone's servers one after the other, but not those that are dead.
func (z *zone) exchange(ctx context.Context, q query) ([]byte, error) {
	err := errors.New("no server of the zone answers")
	for _, s := range z.servers {
		dead, try := s.state(time.Now())
		if try {
			q := q
			q.bytes = slices.Clone(q.bytes)
			go func() { _, _ = s.ask(context.WithoutCancel(ctx), q) }() // notes what comes of it, within zoneTries * zoneTimeout
		}
		if dead {
			continue
		}
		var reply []byte
		if reply, err = s.ask(ctx, q); err == nil {
			return reply, nil
		}
	}
	return nil, err
}

// zoneServer is one server, and what is known about it.
type zoneServer struct {
	at netip.AddrPort

	mu      sync.Mutex
	replied time.Time // last
	err     error     // of the last query; nil = it is alive
	retry   time.Time // when to try again whether it is
}

// state reports whether the server is dead, and whether the caller shall try it all the same,
// with nobody waiting.
func (s *zoneServer) state(now time.Time) (dead, try bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dead = s.err != nil
	try = dead && !now.Before(s.retry)
	if try {
		s.retry = now.Add(deadFor)
	}
	return dead, try
}

func (s *zoneServer) problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ask asks the server and notes whether it is alive. A query that was lost does not make it dead
// if it replied to another one meanwhile.
func (s *zoneServer) ask(ctx context.Context, q query) ([]byte, error) {
	asked := time.Now()
	reply, err := s.exchange(ctx, q)
	if ctx.Err() != nil {
		return reply, err // the server of the container has ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.replied, s.err = time.Now(), nil
	case s.replied.Before(asked):
		s.err, s.retry = err, time.Now().Add(deadFor)
	}
	return reply, err
}

func (s *zoneServer) exchange(ctx context.Context, q query) (reply []byte, err error) {
	dialer := net.Dialer{Timeout: zoneTimeout}
	if q.tcp {
		c, err := dialer.DialContext(ctx, "tcp", s.at.String())
		if err != nil {
			return nil, err
		}
		return exchangeTCP(ctx, c, q, time.Now().Add(zoneTries*zoneTimeout))
	}
	c, err := dialer.DialContext(ctx, "udp", s.at.String())
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	defer func() { _ = c.Close() }() // has been read
	for range zoneTries {
		if reply, err = exchangeUDP(c.(*net.UDPConn), q, time.Now().Add(zoneTimeout)); err == nil { //nolint:errcheck // of udp
			break
		}
	}
	return reply, err
}
