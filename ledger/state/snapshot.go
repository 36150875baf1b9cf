package state

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// MaxSnapshot bounds what DecodeState reads, in bytes.
const MaxSnapshot = 256 << 20

// snapshot is the state in a form that equal states share byte for byte.
type snapshot struct {
	Cluster    netmap.ClusterID `json:"cluster"`
	Level      int              `json:"level"`
	Generation uint64           `json:"generation"`
	Recovered  uint64           `json:"recovered,omitempty"`
	Applied    uint64           `json:"applied"`
	LastIndex  uint32           `json:"last_index"`
	NextVNI    netmap.VNI       `json:"next_vni"`
	Ranges     []netip.Prefix   `json:"ranges,omitempty"`
	Hosts      []hostSnap       `json:"hosts,omitempty"`
	Subnets    []subnetSnap     `json:"subnets,omitempty"`
	Networks   []networkSnap    `json:"networks,omitempty"`
	Claims     []netmap.Claim   `json:"claims,omitempty"`
	History    []Event          `json:"history,omitempty"`
	Forgot     int64            `json:"forgot,omitempty"`
}

type hostSnap struct {
	Entry       netmap.HostEntry `json:"entry"`
	Addr        netip.AddrPort   `json:"addr"`
	Incarnation Incarnation      `json:"incarnation"`
	Heard       uint64           `json:"heard"`
	Declared    uint64           `json:"declared"`
	LowestOpen  uint64           `json:"lowest_open,omitempty"`
	Answered    []answered       `json:"answered,omitempty"`
}

type subnetSnap struct {
	Subnet  netmap.Subnet   `json:"subnet"`
	Holders []netmap.HostID `json:"holders,omitempty"`
	Blocks  []netmap.Block  `json:"blocks,omitempty"`
	Freed   []freedSnap     `json:"freed,omitempty"`
	Late    []netip.Addr    `json:"late,omitempty"`
}

type freedSnap struct {
	Block netip.Prefix `json:"block"`
	At    uint64       `json:"at"`
}

type networkSnap struct {
	Network netmap.Network      `json:"network"`
	Members []netmap.HostID     `json:"members"`
	Names   []netmap.StaticName `json:"names,omitempty"`
}

// Encode writes the whole state, for all releases that know the cluster's feature level.
// Equal states give equal bytes.
func (s *State) Encode() ([]byte, error) { return encode(s.snapshot(), s.Level()) }

func (s *State) snapshot() snapshot {
	out := snapshot{
		Cluster: s.cluster, Level: s.level, Generation: s.generation, Recovered: s.recovered, Applied: s.applied, LastIndex: s.lastIndex, NextVNI: s.nextVNI,
		Ranges: slices.Clone(s.ranges), History: slices.Clone(s.history), Forgot: s.forgot,
	}
	for _, h := range s.sortedHosts() {
		out.Hosts = append(out.Hosts, h.snapshot())
	}
	for _, p := range netmap.SortedPrefixes(s.subnets) {
		sub := s.subnets[p]
		snap := subnetSnap{Subnet: sub.Subnet, Holders: sub.holders.sorted()}
		for _, b := range netmap.SortedPrefixes(sub.blocks) {
			snap.Blocks = append(snap.Blocks, sub.blocks[b])
		}
		for _, b := range netmap.SortedPrefixes(sub.freed) {
			snap.Freed = append(snap.Freed, freedSnap{b, sub.freed[b]})
		}
		snap.Late = netmap.SortedAddrs(sub.late)
		out.Subnets = append(out.Subnets, snap)
	}
	for _, n := range s.sortedNetworks() {
		out.Networks = append(out.Networks, networkSnap{n.Network, n.members.sorted(), slices.Clone(n.names)})
	}
	for _, a := range netmap.SortedAddrs(s.claims) {
		out.Claims = append(out.Claims, s.claims[a])
	}
	return out
}

func (h *host) snapshot() hostSnap {
	return hostSnap{
		Entry: h.HostEntry, Addr: h.Addr, Incarnation: h.Incarnation, Heard: h.Heard,
		Declared: h.declared, LowestOpen: h.session.lowestOpen, Answered: slices.Clone(h.session.answered),
	}
}

func (s *State) sortedHosts() []*host {
	out := make([]*host, 0, len(s.hosts))
	for _, h := range s.hosts {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *host) int { return a.ID.Compare(b.ID) })
	return out
}

// Changes is the whole state as facts, in a fixed order.
func (s *State) Changes() []netmap.Change {
	t := &step{State: s}
	add := func(noun any) { // not set: that looks for an earlier change of the key
		key, _ := netmap.KeyOf(noun)
		t.changes = append(t.changes, netmap.Change{Key: key, Value: noun})
	}
	for i, r := range s.ranges {
		add(netmap.Range{Prefix: r, Order: i})
	}
	for _, h := range s.sortedHosts() {
		add(h.HostEntry)
	}
	for _, n := range s.sortedNetworks() {
		add(n.Network)
		for _, name := range n.names {
			add(name)
		}
	}
	for _, p := range netmap.SortedPrefixes(s.subnets) {
		sub := s.subnets[p]
		add(sub.Subnet)
		for _, b := range netmap.SortedPrefixes(sub.blocks) {
			add(sub.blocks[b])
		}
	}
	for _, a := range netmap.SortedAddrs(s.claims) {
		add(s.claims[a])
	}
	return t.changes
}

// DecodeState reads what Encode wrote and refuses what breaks an invariant. The
// error wraps ErrNewer for snapshots of later releases.
func DecodeState(b []byte) (*State, error) {
	snap, err := Decode[snapshot](b, MaxSnapshot)
	if err != nil {
		return nil, err
	}
	s := NewState()
	s.cluster, s.level, s.generation, s.recovered, s.applied = snap.Cluster, snap.Level, snap.Generation, snap.Recovered, snap.Applied
	s.lastIndex, s.nextVNI, s.ranges = snap.LastIndex, snap.NextVNI, snap.Ranges
	s.history, s.forgot = snap.History[max(0, len(snap.History)-mostHistory-historySlop):], snap.Forgot
	for _, h := range snap.Hosts {
		s.hosts[h.Entry.ID] = &host{Host{h.Entry, h.Addr, h.Incarnation, h.Heard}, h.Declared, session{h.LowestOpen, h.Answered}}
	}
	for _, sub := range snap.Subnets {
		s.subnets[sub.Subnet.Prefix] = sub.restore()
	}
	for _, n := range snap.Networks {
		s.networks[n.Network.ID] = &network{n.Network, setOf(n.Members), n.Names}
	}
	for _, c := range snap.Claims {
		s.claims[c.Addr] = c
	}
	err = s.Verify()
	if s.level < 0 || s.level > Level { // its bytes would have said so
		err = fmt.Errorf("feature level %d", s.level)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: snapshot: %w: %w", ErrMalformed, err)
	}
	return s, nil
}

func (snap subnetSnap) restore() *subnet {
	s := &subnet{Subnet: snap.Subnet, holders: setOf(snap.Holders), blocks: map[netip.Prefix]netmap.Block{}, freed: map[netip.Prefix]uint64{}}
	for _, b := range snap.Blocks {
		s.blocks[b.Prefix] = b
	}
	for _, f := range snap.Freed {
		s.freed[f.Block] = f.At
	}
	for _, a := range snap.Late {
		if s.late == nil {
			s.late = map[netip.Addr]struct{}{}
		}
		s.late[a] = struct{}{}
	}
	return s
}

func setOf(ids []netmap.HostID) hostSet {
	set := hostSet{}
	for _, id := range ids {
		set[id] = struct{}{}
	}
	return set
}

// Verify checks the invariants named at State.
func (s *State) Verify() error {
	if s.nextVNI > maxVNI+1 {
		return fmt.Errorf("next VNI %d", s.nextVNI)
	}
	if err := s.verifyHosts(); err != nil {
		return err
	}
	prefixes := netmap.SortedPrefixes(s.subnets)
	for i, p := range prefixes {
		if refusal := checkSubnet(p, "subnet"); refusal != nil {
			return refusal
		}
		// Sorted, so only the predecessor can reach into p: it would be an overlap itself
		// if an earlier one did.
		if i > 0 && prefixes[i-1].Overlaps(p) {
			return fmt.Errorf("subnet %s overlaps %s", p, prefixes[i-1])
		}
		if err := s.verifySubnet(s.subnets[p]); err != nil {
			return err
		}
	}
	if err := s.verifyNetworks(); err != nil {
		return err
	}
	return s.verifyClaims()
}

func (s *State) verifyHosts() error {
	indexes := map[uint32]bool{}
	for _, h := range s.sortedHosts() {
		if h.ID.IsZero() || h.Index == 0 || h.Index > s.lastIndex || indexes[h.Index] {
			return fmt.Errorf("host %s with index %d", h.ID, h.Index)
		}
		if h.Level < 0 || h.Level > netmap.MaxLevel || !h.Removed && max(h.Level, 1) < s.level {
			return fmt.Errorf("host %s of feature level %d in a cluster of level %d", h.ID, h.Level, s.level)
		}
		indexes[h.Index] = true
	}
	return nil
}

func (s *State) verifySubnet(sub *subnet) error {
	width := sub.Prefix.Addr().BitLen()
	if sub.BlockBits < sub.Prefix.Bits() || sub.BlockBits > width || sub.BlockBits-sub.Prefix.Bits() > maxBlocks {
		return fmt.Errorf("subnet %s has blocks of /%d", sub.Prefix, sub.BlockBits)
	}
	for _, id := range sub.holders.sorted() {
		if h := s.hosts[id]; h == nil || h.Removed {
			return fmt.Errorf("subnet %s is used by %s, which is no member", sub.Prefix, id)
		}
	}
	for _, p := range netmap.SortedPrefixes(sub.blocks) {
		b := sub.blocks[p]
		_, holds := sub.holders[b.Owner]
		if b.Prefix.Masked() != b.Prefix || b.Prefix.Bits() != sub.BlockBits || !netmap.Within(b.Prefix, sub.Prefix) || b.Subnet != sub.Prefix || !holds {
			return fmt.Errorf("block %s of %s in subnet %s", b.Prefix, b.Owner, sub.Prefix)
		}
	}
	return nil
}

func (s *State) verifyNetworks() error {
	vnis, subnets := map[netmap.VNI]bool{}, map[netip.Prefix]bool{}
	for _, n := range s.sortedNetworks() {
		if n.ID == 0 || n.VNI == 0 || n.VNI > maxVNI || vnis[n.VNI] || len(n.members) == 0 {
			return fmt.Errorf("network %d with VNI %d and %d members", n.ID, n.VNI, len(n.members))
		}
		vnis[n.VNI] = true
		for _, p := range n.Subnets {
			if s.subnets[p] == nil || subnets[p] {
				return fmt.Errorf("network %d with subnet %s", n.ID, p)
			}
			subnets[p] = true
		}
		if err := n.verifyNames(); err != nil {
			return err
		}
		for _, id := range n.members.sorted() {
			if h := s.hosts[id]; h == nil || h.Removed {
				return fmt.Errorf("network %d has the member %s, which is none of the cluster", n.ID, id)
			}
		}
	}
	return nil
}

func (s *State) verifyClaims() error {
	for _, a := range netmap.SortedAddrs(s.claims) {
		c := s.claims[a]
		sub := s.subnets[c.Subnet]
		if sub == nil || !c.Addr.IsValid() || !c.Subnet.Contains(c.Addr) {
			return fmt.Errorf("claim %s in subnet %s", c.Addr, c.Subnet)
		}
		if _, holds := sub.holders[c.Owner]; !holds {
			return fmt.Errorf("claim %s of %s, which does not use the subnet", c.Addr, c.Owner)
		}
	}
	return nil
}
