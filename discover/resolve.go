package discover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// namesAtOnce is how many names of one entry are looked up at a time.
const namesAtOnce = 16

// services returns the targets of the SRV records of a name.
func (p *Peers) services(ctx context.Context, name string) ([]Entry, error) {
	_, records, err := p.cfg.Resolver.LookupSRV(ctx, "", "", name)
	if len(records) == 0 {
		return nil, err
	}
	var out []Entry
	for _, r := range records {
		port := r.Port
		if port == 0 {
			port = p.cfg.Self.Port()
		}
		out = append(out, Entry{host: strings.TrimSuffix(r.Target, "."), port: port})
	}
	return out, nil
}

// resolve finds the addresses of the hosts that an entry stands for.
func (p *Peers) resolve(ctx context.Context, e Entry, hosts []Entry) answer {
	slices.SortFunc(hosts, func(a, b Entry) int { return strings.Compare(a.key(), b.key()) })
	hosts = slices.CompactFunc(hosts, func(a, b Entry) bool { return a.key() == b.key() })
	var out answer
	if more := len(hosts) - maxHosts; more > 0 {
		hosts, out.missing = hosts[:maxHosts], []string{fmt.Sprintf("%d more", more)}
		out.err = fmt.Errorf("more than %d hosts; %d are left out", maxHosts, more)
	}
	found, errs := make([][]netip.AddrPort, len(hosts)), make([]error, len(hosts))
	slots := make(chan struct{}, namesAtOnce)
	var all sync.WaitGroup
	for i, h := range hosts {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			found[i], errs[i] = p.addresses(ctx, e, h)
		})
	}
	all.Wait()
	for i, h := range hosts {
		out.addrs = append(out.addrs, found[i]...)
		if errs[i] == nil {
			continue
		}
		if out.err == nil {
			out.err = oneLine(errs[i])
		}
		if len(hosts) > 1 {
			out.missing = append(out.missing, h.host)
		}
	}
	slices.SortFunc(out.addrs, netip.AddrPort.Compare)
	out.addrs = slices.Compact(out.addrs)
	out.addrs = out.addrs[:min(len(out.addrs), maxHosts)]
	return out
}

func (e Entry) key() string { return fmt.Sprintf("%s %05d", e.host, e.port) }

// addresses returns the addresses of one host.
func (p *Peers) addresses(ctx context.Context, e, host Entry) ([]netip.AddrPort, error) {
	if host.port == 0 {
		return nil, fmt.Errorf("%q is no host", host.host)
	}
	found := []netip.Addr{}
	if a, err := netip.ParseAddr(host.host); err == nil {
		found = append(found, a)
	} else if found, err = p.cfg.Resolver.LookupNetIP(ctx, "ip", host.host); err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, a := range found {
		if at, ok := p.usable(e, netip.AddrPortFrom(a.Unmap(), host.port)); ok {
			out = append(out, at)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no address where a host could be: %v", host.host, found)
	}
	return out, nil
}

// usable removes addresses that cannot be another host's. If a name that the operator wrote
// resolves to the loopback address, it is this host's own: distributions write it into
// /etc/hosts that way. The other hosts find its real address.
func (p *Peers) usable(e Entry, a netip.AddrPort) (netip.AddrPort, bool) {
	switch ip := a.Addr(); {
	case ip.IsUnspecified(), ip.IsMulticast():
		return a, false
	case ip.IsLoopback() && e.trusted() && a.Port() == p.cfg.Self.Port():
		return p.cfg.Self, true
	case ip.IsLoopback():
		return a, e.trusted()
	}
	return a, true
}

// hostsIn parses words that other programs wrote as names or addresses of hosts; port is
// for those without one. A word that cannot be parsed becomes a host that is not found.
func hostsIn(words []string, port uint16) ([]Entry, error) {
	var out []Entry
	for _, w := range words {
		if a, err := netip.ParseAddr(w); err == nil && a.Is6() {
			w = "[" + w + "]"
		}
		host, at, err := parseHost(w, port)
		if err != nil {
			host, at = w[:min(len(w), maxName)], 0
		}
		out = append(out, Entry{host: host, port: at})
	}
	if len(out) == 0 {
		return nil, errors.New("it names no host")
	}
	return out, nil
}
