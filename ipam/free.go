package ipam

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/ipam/pool"
)

// free releases a held address. While an endpoint has the address, free only notes that Docker
// has released it: Docker does so for the IPv6 address of a container without IPv6, and when a
// second container was refused the address.
func (p *allocator) free(a netip.Addr) error {
	return p.freeIf(a, func(pool.Use) bool { return true })
}

// freeIf frees a held address if right, which is called with mu held, still says so when the
// change begins.
func (p *allocator) freeIf(a netip.Addr, right func(pool.Use) bool) error {
	p.mu.Lock()
	use, _ := p.Used(a)
	leaving := p.holder(a) != ""
	switch {
	case !use.Held || p.releasing || leaving && use.Leaving && !use.Evicted || !right(use):
		p.mu.Unlock()
		return nil
	case p.Locked(a):
		p.mu.Unlock()
		return busy(a)
	}
	p.Lock(a)
	if use.Evicted || !leaving && !p.Owns(a) {
		p.mu.Unlock()
		return p.forgetEvicted(a)
	}
	was := use
	use.Held, use.Leaving = leaving, leaving
	if !leaving {
		use.Seq, use.At, use.Caller = p.NextSeq(), time.Now().Unix(), Caller{}
	}
	p.mu.Unlock()

	err := p.cfg.Disk.Commit(map[string][]byte{key(kindAddr, a): encode(use)})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Unlock(a)
	if err != nil { // only the sweep repeats this
		was.Leaving = true
		p.Put(a, was)
		return fmt.Errorf("ipam: %s is still held: %w", a, err)
	}
	p.Put(a, use)
	if !leaving {
		delete(p.since, a)
	}
	return nil
}
