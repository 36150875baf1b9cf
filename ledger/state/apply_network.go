package state

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// maxVNI is the greatest VNI (24 bits, RFC 7348).
const maxVNI netmap.VNI = 1<<24 - 1

func (t *step) ensureNetwork(e *EnsureNetwork) *netmap.Refusal {
	subnets := slices.Clone(e.Subnets)
	slices.SortFunc(subnets, netip.Prefix.Compare)
	subnets = slices.Compact(subnets)
	if refusal := t.checkNetwork(e, subnets); refusal != nil {
		return refusal
	}
	n, refusal := t.findNetwork(e, subnets)
	if refusal == nil && t.copiesInVain(e.Replica, n) {
		refusal = netmap.Refuse(netmap.Unknown, "network %d was removed meanwhile, so it does not appear here; create it again if it is wanted", e.Replica)
	}
	if refusal == nil && n == nil {
		n, refusal = t.makeNetwork(e, subnets)
	} else if refusal == nil {
		refusal = t.compareOptions(n, e)
	}
	if refusal != nil {
		return refusal
	}
	t.join(n)
	t.reply.Network = new(n.Network)
	return nil
}

// copiesInVain reports whether a replica is of a network that has gone since: a user
// removed it while another host's Docker was busy making the replica.
func (t *step) copiesInVain(replica netmap.NetworkID, found *network) bool {
	if replica == 0 {
		return false
	}
	if found == nil || found.ID != replica {
		return true
	}
	_, member := found.members[t.cmd.Host]
	return found.Retired && !member
}

func (t *step) checkNetwork(e *EnsureNetwork, subnets []netip.Prefix) *netmap.Refusal {
	if refusal := CheckName("network name", e.Name); refusal != nil {
		return refusal
	}
	switch {
	case len(subnets) == 0 && e.Name == "":
		return netmap.Refuse(netmap.BadInput, "a network needs a subnet or a name to be found by; give it a --subnet")
	case e.VNI > maxVNI:
		return netmap.Refuse(netmap.BadInput, "VNI %d is out of range; use 1 to %d", e.VNI, maxVNI)
	case e.MTU < 0 || e.MTU > 65535:
		return netmap.Refuse(netmap.BadInput, "MTU %d is out of range; use one of at most 65535", e.MTU)
	}
	for i, p := range subnets {
		if i > 0 && subnets[i-1].Addr().Is4() == p.Addr().Is4() { // they are sorted
			return netmap.Refuse(netmap.BadInput, "a network has at most one IPv4 and one IPv6 subnet, not %s; create a network for each", list(subnets))
		}
		if t.subnets[p] == nil {
			return netmap.Refuse(netmap.Unknown, "there is no subnet %s; it must be requested from Weft's IPAM first (--ipam-driver)", p)
		}
	}
	return nil
}

// findNetwork is the network that is meant, nil if there is none yet.
func (t *step) findNetwork(e *EnsureNetwork, subnets []netip.Prefix) (*network, *netmap.Refusal) {
	for _, n := range t.sortedNetworks() {
		shares := slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return slices.Contains(subnets, p) })
		named := e.Name != "" && n.Name == e.Name && !n.Retired
		switch {
		case slices.Equal(n.Subnets, subnets), named && len(subnets) == 0:
			return n, nil
		case shares || named:
			t.reply.Network = new(n.Network)
			return nil, netmap.Refuse(netmap.Conflict, "%s has subnets %s, not %s; create it with the same ones (--subnet)", networkName(n), list(n.Subnets), list(subnets))
		}
	}
	if len(subnets) == 0 {
		return nil, netmap.Refuse(netmap.Unknown, "there is no network %s in this cluster; create it (docker network create), or leave -o weft.network out", e.Name)
	}
	return nil, nil
}

func list(prefixes []netip.Prefix) string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.String()
	}
	return strings.Join(out, " and ")
}

// compareOptions refuses what the network cannot be for this host because it is
// something else for the others. 0 and an empty name are no opinion.
func (t *step) compareOptions(n *network, e *EnsureNetwork) *netmap.Refusal {
	differs := func(option string, has, want any) *netmap.Refusal {
		t.reply.Network = new(n.Network)
		if n.Retired {
			return netmap.Refuse(netmap.Conflict, "%s (%s) was removed, and is in use until its last container ends on %s, with %s %v, not %v; stop the containers there (weft status names them), or use the same options", networkName(n), list(n.Subnets), t.names(n.members), option, has, want)
		}
		return netmap.Refuse(netmap.Conflict, "%s (%s) exists with %s %v, not %v; use the same options on every host", networkName(n), list(n.Subnets), option, has, want)
	}
	switch {
	case e.Name != "" && n.Name != "" && e.Name != n.Name && !n.Retired:
		return differs("weft.network", n.Name, e.Name)
	case e.MTU != 0 && e.MTU != n.MTU:
		return differs("weft.mtu", mtuText(n.MTU), e.MTU)
	case e.VNI != 0 && e.VNI != n.VNI:
		return differs("weft.vni", n.VNI, e.VNI)
	case e.Multicast != n.Multicast:
		return differs("weft.multicast", n.Multicast, e.Multicast)
	case e.Host != n.Host:
		return differs("weft.host", n.Host, e.Host)
	case e.Internal != n.Internal:
		return differs("--internal", n.Internal, e.Internal)
	}
	return t.nameFree(n.ID, e.Name)
}

func mtuText(mtu int) string {
	if mtu == 0 {
		return "from the underlay"
	}
	return fmt.Sprint(mtu)
}

// nameFree refuses a name that another network has.
func (t *step) nameFree(id netmap.NetworkID, name string) *netmap.Refusal {
	if n := t.named(name); n != nil && n.ID != id {
		t.reply.Network = new(n.Network)
		return netmap.Refuse(netmap.Conflict, "the name %s belongs to the network with subnets %s already; choose another name, or the same --subnet", name, list(n.Subnets))
	}
	return nil
}

// named finds the network that goes by a name; retired ones do not.
func (t *step) named(name string) *network {
	for _, n := range t.sortedNetworks() {
		if name != "" && n.Name == name && !n.Retired {
			return n
		}
	}
	return nil
}

func (t *step) makeNetwork(e *EnsureNetwork, subnets []netip.Prefix) (*network, *netmap.Refusal) {
	if refusal := t.complete(); refusal != nil {
		return nil, refusal
	}
	vni, refusal := t.pickVNI(e.VNI)
	if refusal != nil {
		return nil, refusal
	}
	n := &network{members: hostSet{}, Network: netmap.Network{
		ID: netmap.NetworkID(t.index), Name: e.Name, VNI: vni, Subnets: subnets, MTU: e.MTU,
		Multicast: e.Multicast, Host: e.Host, Internal: e.Internal, Creator: t.cmd.Host, Docker: e.Docker,
	}}
	if refusal := fits(n.Network); refusal != nil {
		return nil, refusal
	}
	if e.VNI == 0 {
		t.nextVNI = vni + 1
	}
	t.networks[n.ID] = n
	t.set(n.Network)
	return n, nil
}

// pickVNI is the wanted VNI if it is free, or the next one that is: those of
// removed networks come back only after all others were used.
func (t *step) pickVNI(want netmap.VNI) (netmap.VNI, *netmap.Refusal) {
	used := make(map[netmap.VNI]*network, len(t.networks))
	for _, n := range t.networks {
		used[n.VNI] = n
	}
	if n := used[want]; want != 0 && n != nil {
		return 0, netmap.Refuse(netmap.Held, "VNI %d belongs to %s (%s); choose another (-o weft.vni) or leave it out", want, networkName(n), list(n.Subnets))
	}
	if want != 0 {
		return want, nil
	}
	vni := t.nextVNI
	for range len(used) + 1 {
		if vni > maxVNI || vni < netmap.FirstVNI {
			vni = netmap.FirstVNI
		}
		if used[vni] == nil {
			return vni, nil
		}
		vni++
	}
	return 0, netmap.Refuse(netmap.Exhausted, "all VNIs are in use; remove unused networks (docker network rm)")
}

// join makes the asking host a member. A retired network that gets a new member
// lives again, without its name if another one has that by now. So it does for a
// member that is no replica: its user creates it anew, while the ledger has not yet
// heard that the host left.
func (t *step) join(n *network) {
	before := n.Network
	_, member := n.members[t.cmd.Host]
	n.members[t.cmd.Host] = struct{}{}
	if n.Retired && (!member || t.cmd.EnsureNetwork.Replica == 0) {
		if t.named(n.Name) != nil {
			n.Name = ""
		}
		n.Retired, n.Creator = false, t.cmd.Host
	}
	if n.Name == "" && !n.Retired {
		n.Name = t.cmd.EnsureNetwork.Name
	}
	if n.Name != before.Name || n.Retired != before.Retired {
		t.set(n.Network)
	}
}

func (t *step) nameNetwork(c *NameNetwork) *netmap.Refusal {
	n := t.networks[c.ID]
	switch {
	case n == nil:
		return netmap.Refuse(netmap.Unknown, "there is no network %d any more; it was removed meanwhile, create it again if it is wanted", c.ID)
	case c.Name == "":
		return netmap.Refuse(netmap.BadInput, "a network cannot be given an empty name; give it one")
	case n.Retired:
		return netmap.Refuse(netmap.Unknown, "%s was removed by a user (docker network rm) and cannot be named; wait until its last container is gone, or create it with another --subnet", networkName(n))
	case n.Name != "" && n.Name != c.Name:
		t.reply.Network = new(n.Network)
		return netmap.Refuse(netmap.Conflict, "the network with subnets %s is called %s already, not %s; use that name, or another --subnet", list(n.Subnets), n.Name, c.Name)
	}
	if refusal := CheckName("network name", c.Name); refusal != nil {
		return refusal
	}
	if refusal := t.nameFree(n.ID, c.Name); refusal != nil {
		return refusal
	}
	if c.Docker != nil {
		if refusal := CheckDocker(c.Name, *c.Docker); refusal != nil {
			return refusal
		}
	}
	t.name(n, c)
	t.reply.Network = new(n.Network)
	return nil
}

// name does what nameNetwork found possible. What is known already changes nothing.
func (t *step) name(n *network, c *NameNetwork) {
	before := n.Network
	n.Name = c.Name
	if c.Docker != nil && (n.Docker == nil || n.Creator == t.cmd.Host) {
		n.Docker = c.Docker
	}
	if n.Name != before.Name || !reflect.DeepEqual(n.Docker, before.Docker) {
		t.set(n.Network)
	}
}

// maxDocker bounds what the ledger keeps of how Docker shows a network, in bytes: a host
// declares all its networks to a recovered ledger in one command, which MaxCommand bounds.
const maxDocker = 16 << 10

// CheckDocker refuses what Docker shows of a network if that is too much for the facts.
func CheckDocker(name string, d netmap.DockerNetwork) *netmap.Refusal {
	if err := d.Check(); err != nil {
		return netmap.Refuse(netmap.BadInput, "network %s cannot be told to other hosts: %s; create it again without that", name, err)
	}
	value, err := netmap.Encode(netmap.NetworkKey(1), netmap.Network{ID: 1, Docker: &d})
	switch {
	case err != nil:
		return netmap.Refuse(netmap.BadInput, "network %s cannot be told to other hosts: %s", name, err)
	case len(value) > maxDocker:
		return netmap.Refuse(netmap.BadInput, "the labels, options and --aux-addresses of network %s have %d bytes, and other hosts are told of at most %d; create it again with fewer", name, len(value), maxDocker)
	}
	return nil
}

func (t *step) retireNetwork(c *RetireNetwork) *netmap.Refusal {
	if n := t.networks[c.ID]; n != nil && !n.Retired {
		n.Retired = true
		t.set(n.Network)
	}
	return nil // to remove what is not there is no mistake
}

func (t *step) leaveNetwork(c *LeaveNetwork) *netmap.Refusal {
	if n := t.networks[c.ID]; n != nil {
		t.dropMember(n, t.cmd.Host)
	}
	return nil // to leave what one is not in is no mistake
}

// dropMember ends a membership; the network goes with the last one.
func (t *step) dropMember(n *network, id netmap.HostID) {
	delete(n.members, id)
	if len(n.members) > 0 {
		return
	}
	for _, name := range n.names {
		t.gone(name)
	}
	delete(t.networks, n.ID)
	t.gone(n.Network)
	for _, p := range n.Subnets {
		if s := t.subnets[p]; s != nil {
			t.sweep(s)
		}
	}
}
