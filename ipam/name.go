package ipam

import (
	"net/netip"
)

// Named notes which container has an address, because engines before 29 do not say it in the
// request. It is written to disk when the address is released: from then on it matters, since
// the container may start again.
func (i *IPAM) Named(a netip.Addr, container string) {
	p := i.poolAt(a)
	if p == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.SetName(a, container)
}

// returning guesses which container asks for an address of an area: of those that may be
// starting again, the only one that had an address there that is still free. It is empty if
// there are none or several.
func (p *allocator) returning(within netip.Prefix) string {
	if p.cfg.Returning == nil {
		return ""
	}
	names := p.cfg.Returning()
	p.mu.Lock()
	defer p.mu.Unlock()
	found := ""
	for _, name := range names {
		if _, ok := p.Remembered(name, within); !ok {
			continue
		}
		if found != "" {
			return ""
		}
		found = name
	}
	return found
}
