package ipam

import (
	"net/netip"
)

// Named says which container has an address: engines before 29 do not tell it when
// they ask. It is written down when the address is released, which is when it
// begins to matter: the container may come back.
func (i *IPAM) Named(a netip.Addr, container string) {
	p := i.poolAt(a)
	if p == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.SetName(a, container)
}

// returning is the container that asks for an address of an area as far as that can
// be told: the only one of those that may be starting again which had an address
// there that still is free. Else empty.
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
