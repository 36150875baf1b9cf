package state

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// addName adds a name by hand. One that is there already changes nothing.
func (t *step) addName(c *AddName) *netmap.Refusal {
	name := c.Name
	name.Name, name.Addr = strings.ToLower(name.Name), name.Addr.Unmap()
	n, refusal := t.networkWithNames(name.Network)
	if refusal != nil {
		return refusal
	}
	if refusal := name.Check(); refusal != nil {
		return refusal
	}
	switch {
	case slices.Contains(n.names, name):
		return nil
	case len(n.names) >= netmap.MaxStaticNames:
		return netmap.Refuse(netmap.Exhausted, "%s has %d names that were added by hand, and more are not kept; remove some (weft dns rm)", networkName(n), len(n.names))
	}
	n.put(name)
	t.set(name)
	return nil
}

func (t *step) removeName(c *RemoveName) *netmap.Refusal {
	want := c.Name
	want.Name, want.Addr = strings.ToLower(want.Name), want.Addr.Unmap()
	n, refusal := t.networkWithNames(want.Network)
	if refusal != nil {
		return refusal
	}
	var gone []netmap.StaticName
	n.names = slices.DeleteFunc(n.names, func(name netmap.StaticName) bool {
		meant := name.Name == want.Name && (!want.Addr.IsValid() || name.Addr == want.Addr)
		if meant {
			gone = append(gone, name)
		}
		return meant
	})
	for _, name := range gone {
		t.gone(name)
	}
	if len(gone) == 0 {
		return netmap.Refuse(netmap.Unknown, "nobody added the name %q by hand to %s, or not for that address; weft dns ls lists the names", want.Name, networkName(n))
	}
	return nil
}

// networkWithNames is a network that has not been removed.
func (t *step) networkWithNames(id netmap.NetworkID) (*network, *netmap.Refusal) {
	n := t.networks[id]
	switch {
	case n == nil:
		return nil, netmap.Refuse(netmap.Unknown, "there is no network %d any more; weft status lists them", id)
	case n.Retired:
		return nil, netmap.Refuse(netmap.Unknown, "%s was removed (docker network rm), and its names go with it; create it again if it is wanted", networkName(n))
	}
	return n, nil
}

// put adds a name that the network does not have.
func (n *network) put(name netmap.StaticName) {
	at, _ := slices.BinarySearchFunc(n.names, name, netmap.StaticName.Compare)
	n.names = slices.Insert(n.names, at, name)
}

func (n *network) verifyNames() error {
	if len(n.names) > netmap.MaxStaticNames {
		return fmt.Errorf("network %d has %d names that were added by hand", n.ID, len(n.names))
	}
	for i, name := range n.names {
		if name.Network != n.ID || name.Check() != nil || i > 0 && n.names[i-1].Compare(name) >= 0 {
			return fmt.Errorf("network %d has the name %q for %s", n.ID, name.Name, name.Addr)
		}
	}
	return nil
}

// nameLabel is a name with its network, for the history.
func (t *step) nameLabel(name netmap.StaticName) string {
	if n := t.networks[name.Network]; n != nil {
		return clipped(name.Name + " in " + networkName(n))
	}
	return clipped(name.Name)
}
