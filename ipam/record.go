package ipam

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
)

// Keys on disk are KIND/IDENTITY. Subnets never overlap, so the key of an address does not
// name its subnet.
const (
	kindSubnet  = "subnet"
	kindBlock   = "block"
	kindClaim   = "claim"
	kindForeign = "foreign"
	kindAddr    = "addr"
	kindReturn  = "return"  // a returned block of which the ledger has not heard yet
	kindUnclaim = "unclaim" // the same of a claim
)

// subnetRecord is a pool on disk.
type subnetRecord struct {
	Subnet       netmap.Subnet `json:"subnet"`
	Networks     []string      `json:"networks,omitempty"`     // their owners' ids of the networks on it, sorted
	Unregistered bool          `json:"unregistered,omitempty"` // used under an earlier identity: see IPAM.Reregister
}

func key(kind string, id fmt.Stringer) string { return kind + "/" + id.String() }

// encode encodes a struct of this package, all of which can be encoded.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("ipam: encode %T: %v", v, err))
	}
	return b
}

// restored is what restore read from disk.
type restored struct {
	env       *env
	pools     map[netip.Prefix]*allocator
	leftovers []string // keys of records whose pool is gone
	uses      []use
}

// use is an address record that is added after all others.
type use struct {
	pool.Use
	addr netip.Addr
	pool *allocator
}

// restore reads all records. It refuses the whole disk if it cannot read one of them: an agent
// that knew only half of them would hand out addresses twice.
func restore(e *env, raw map[string][]byte) (restored, error) {
	r := restored{env: e, pools: map[netip.Prefix]*allocator{}}
	// Subnets first, then blocks, then what lies in them.
	for _, kind := range []string{kindSubnet, kindBlock, kindReturn, kindClaim, kindUnclaim, kindForeign, kindAddr} {
		for _, k := range slices.Sorted(maps.Keys(raw)) {
			if got, id, _ := strings.Cut(k, "/"); got == kind {
				if err := r.read(kind, id, raw[k]); err != nil {
					return restored{}, fmt.Errorf("ipam: record %q on disk cannot be read: %w", k, err)
				}
			}
		}
	}
	// In the order of their release, so that each is added at the end of the queue.
	slices.SortStableFunc(r.uses, func(a, b use) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, u := range r.uses {
		u.pool.Put(u.addr, u.Use)
	}
	r.uses = nil
	r.noteLast()
	return r, nil
}

func (r *restored) read(kind, id string, raw []byte) error {
	switch kind {
	case kindSubnet:
		return r.readSubnet(id, raw)
	case kindBlock:
		var b netmap.Block
		return r.within(&b, kind, id, raw, func() (netip.Prefix, func(*allocator)) {
			return b.Subnet, func(p *allocator) { p.AddBlock(b) }
		})
	case kindReturn:
		var b Returned
		return r.within(&b, kind, id, raw, func() (netip.Prefix, func(*allocator)) {
			return b.Subnet, func(p *allocator) { p.returns[b.Prefix] = b; p.noteGivenUp(b.Prefix, b.Epoch) }
		})
	case kindClaim:
		var c pool.Claim
		return r.within(&c, kind, id, raw, func() (netip.Prefix, func(*allocator)) {
			return c.Subnet, func(p *allocator) { p.AddClaim(c) }
		})
	case kindUnclaim:
		var c netmap.Claim
		return r.within(&c, kind, id, raw, func() (netip.Prefix, func(*allocator)) {
			return c.Subnet, func(p *allocator) { p.unclaims[c.Addr] = c; p.noteGivenUp(netmap.Single(c.Addr), c.Epoch) }
		})
	}
	return r.readAddr(kind, id, raw)
}

func (r *restored) readSubnet(id string, raw []byte) error {
	var s subnetRecord
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if s.Subnet.Prefix.String() != id {
		return fmt.Errorf("it is about %s", s.Subnet.Prefix)
	}
	r.pools[s.Subnet.Prefix] = newAllocator(r.env, s)
	return nil
}

func (r *restored) readAddr(kind, id string, raw []byte) error {
	addr, err := netip.ParseAddr(id)
	if err != nil {
		return err
	}
	home := netip.Prefix{}
	for prefix := range r.pools {
		if prefix.Contains(addr) {
			home = prefix
		}
	}
	if kind == kindForeign {
		var to netmap.HostID
		return r.within(&to, kind, id, raw, func() (netip.Prefix, func(*allocator)) {
			return home, func(p *allocator) {
				if _, own := p.ClaimAt(addr); !own { // this host claimed it while it adopted the block
					p.Forsake(addr, to)
				}
			}
		})
	}
	var u pool.Use
	return r.within(&u, kind, id, raw, func() (netip.Prefix, func(*allocator)) {
		return home, func(p *allocator) { r.uses = append(r.uses, use{Use: u, addr: addr, pool: p}) }
	})
}

// within decodes a record and adds it to its pool, or to the leftovers.
func (r *restored) within(v any, kind, id string, raw []byte, home func() (netip.Prefix, func(*allocator))) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return err
	}
	prefix, add := home()
	if p := r.pools[prefix]; p != nil {
		add(p)
		return nil
	}
	r.leftovers = append(r.leftovers, kind+"/"+id)
	return nil
}
