package datapath

import (
	"cmp"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// claim is what an endpoint asks for: that a MAC and some addresses lead to it.
type claim struct {
	host  netmap.HostID // of a remote endpoint
	id    netmap.EndpointID
	mac   netmap.MAC
	local bool // plugged on this host
}

// compare orders claims: local ones first, since those are plugged here whatever other hosts
// announce, then in the order of netmap.View.EndpointsOf. The first claim holds a key.
func (c *claim) compare(d *claim) int {
	if c.local != d.local {
		if c.local {
			return -1
		}
		return 1
	}
	return cmp.Or(c.host.Compare(d.host), strings.Compare(string(c.id), string(d.id)))
}

// claims are the claims to each MAC, or to each address, of one network.
type claims[K comparable] struct {
	holder map[K]*claim
	others map[K][]*claim // of the keys with more than one claim, in order
}

func newClaims[K comparable]() claims[K] {
	return claims[K]{map[K]*claim{}, map[K][]*claim{}}
}

func (c *claims[K]) add(k K, one *claim) {
	holder := c.holder[k]
	if holder == nil {
		c.holder[k] = one
		return
	}
	if one.compare(holder) < 0 {
		c.holder[k], one = one, holder
	}
	at, _ := slices.BinarySearchFunc(c.others[k], one, (*claim).compare)
	c.others[k] = slices.Insert(c.others[k], at, one)
}

// remove removes a claim that is equal by compare, if there is one.
func (c *claims[K]) remove(k K, one *claim) {
	holder, others := c.holder[k], c.others[k]
	switch {
	case holder == nil:
		return
	case holder.compare(one) != 0:
		others = slices.DeleteFunc(others, func(o *claim) bool { return o.compare(one) == 0 })
	case len(others) == 0:
		delete(c.holder, k)
	default:
		c.holder[k], others = others[0], others[1:]
	}
	if len(others) == 0 {
		delete(c.others, k)
		return
	}
	c.others[k] = others
}

// seen remembers keys with what was true for them when they were first noted, in that order.
type seen[K comparable, V any] struct {
	was  map[K]V
	keys []K
	lost map[K]bool // keys whose entries the kernel may have lost
}

func (s *seen[K, V]) note(k K, v V) {
	if _, known := s.was[k]; known {
		return
	}
	if s.was == nil {
		s.was, s.lost = map[K]V{}, map[K]bool{}
	}
	s.was[k], s.keys = v, append(s.keys, k)
}
