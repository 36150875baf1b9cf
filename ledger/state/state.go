package state

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// State is what the ledger has decided so far. It is pure and deterministic: the
// same commands in the same order give equal states, replies and changes on every
// host. It is not safe for concurrent use.
//
// Invariants, after every command: subnets do not overlap; every block lies in
// its subnet, has its subnet's size and one owner; VNIs and host indexes are
// unique; a removed host holds nothing; no member is below the cluster's feature level.
type State struct {
	cluster    netmap.ClusterID
	level      int    // see Level; 0 before the first member
	generation uint64 // of the log: a recovered ledger has a greater one
	recovered  uint64 // index at which this generation began; 0 in the first one
	applied    uint64 // index of the newest command seen
	lastIndex  uint32 // host indexes are never given twice
	nextVNI    netmap.VNI
	ranges     []netip.Prefix // in the order in which they are used
	hosts      map[netmap.HostID]*host
	subnets    map[netip.Prefix]*subnet
	networks   map[netmap.NetworkID]*network
	claims     map[netip.Addr]netmap.Claim
	history    []Event // the oldest first; see historyFor
	forgot     int64   // when the newest event happened that history has dropped; 0: none
}

type hostSet map[netmap.HostID]struct{}

// Host is what the ledger knows of a host.
type Host struct {
	netmap.HostEntry
	Addr        netip.AddrPort // where it was when it was admitted last
	Incarnation Incarnation    // the newest start that was shown
	Heard       uint64         // index of the last admit or renew
}

type host struct {
	Host
	declared uint64 // the generation in which it declared what it holds, or came
	session  session
}

type subnet struct {
	netmap.Subnet
	holders hostSet                       // hosts that use it
	blocks  map[netip.Prefix]netmap.Block // owned
	freed   map[netip.Prefix]uint64       // returned or taken back, by index: given out last
	late    map[netip.Addr]struct{}       // in free blocks, in use until lately: given out last; may be nil
	free    *freeBlocks                   // follows from the others; nil until it is needed
}

type network struct {
	netmap.Network
	members hostSet
	names   []netmap.StaticName // sorted; they go with the network
}

// NewState is the state before founding.
func NewState() *State {
	return &State{
		nextVNI: netmap.FirstVNI, hosts: map[netmap.HostID]*host{}, subnets: map[netip.Prefix]*subnet{},
		networks: map[netmap.NetworkID]*network{}, claims: map[netip.Addr]netmap.Claim{},
	}
}

// Cluster is the id given at founding, zero before.
func (s *State) Cluster() netmap.ClusterID { return s.cluster }

// Generation is 1 when the cluster is founded and grows with each recovery.
func (s *State) Generation() uint64 { return s.generation }

// Applied is the index of the newest command seen.
func (s *State) Applied() uint64 { return s.applied }

// Host is a host that was ever admitted; known is whether there is one of this id.
func (s *State) Host(id netmap.HostID) (h Host, known bool) {
	if h := s.hosts[id]; h != nil {
		return h.Host, true
	}
	return Host{}, false
}

// Hosts are all that were ever admitted, by id.
func (s *State) Hosts() []Host {
	out := make([]Host, 0, len(s.hosts))
	for _, h := range s.sortedHosts() {
		out = append(out, h.Host)
	}
	return out
}

// step is one command on its way through the state. Its methods decide first and
// change the state only when nothing can refuse any more.
type step struct {
	*State
	index   uint64
	cmd     Command
	self    *host // who asks; nil for found and the first admit
	reply   Reply
	changes []netmap.Change
}

// Apply carries out the command with the next index. What it decided is in the
// reply, what it changed in the changes, at most one for each key. A refused
// command changes nothing but the record of requests seen and, if the leader's release is
// newer than those before it, the feature level. An index not greater
// than the last one is a replay and changes nothing.
func (s *State) Apply(index uint64, cmd Command) (Reply, []netmap.Change) {
	t := &step{State: s, index: index, cmd: cmd, reply: Reply{Index: index}}
	if index <= s.applied {
		t.reply.Refusal = netmap.Refuse(netmap.BadInput, "decision %d was made already; the newest is %d", index, s.applied)
		return t.reply, nil
	}
	refusal := t.run()
	if max(cmd.Leader, 1) > s.level { // its release may be what was missing, or who the members are
		s.raiseLevel(cmd.Leader)
	}
	t.reply.Refusal, t.reply.Cluster, t.reply.Level = refusal, s.cluster, s.Level()
	s.applied = index
	t.remember()
	return t.reply, t.changes
}

func (t *step) run() *netmap.Refusal {
	if err := t.cmd.Check(); err != nil {
		return netmap.Refuse(netmap.BadInput, "%s", err)
	}
	if refusal := t.authorize(); refusal != nil {
		return refusal
	}
	if refusal := t.cmd.CheckLevel(t.Level()); refusal != nil {
		return refusal
	}
	if earlier, seen, refusal := t.repeated(); seen {
		t.reply = earlier
		return refusal
	}
	return kinds[t.cmd.Kind].do(t)
}

// set records that a noun is new or has changed.
func (t *step) set(noun any) {
	key, _ := netmap.KeyOf(noun)
	t.put(netmap.Change{Key: key, Value: noun})
	t.reindex(noun)
	t.noteSet(noun)
}

// gone records that a noun is no more.
func (t *step) gone(noun any) {
	key, _ := netmap.KeyOf(noun)
	t.put(netmap.Change{Key: key})
	t.reindex(noun)
	t.noteGone(noun)
}

func (t *step) put(c netmap.Change) {
	if i := slices.IndexFunc(t.changes, func(o netmap.Change) bool { return o.Key == c.Key }); i >= 0 {
		t.changes[i] = c
		return
	}
	t.changes = append(t.changes, c)
}

// fits refuses a noun that is too large to be told to other hosts.
func fits(noun any) *netmap.Refusal {
	key, _ := netmap.KeyOf(noun)
	if _, err := netmap.Encode(key, noun); err != nil {
		return netmap.Refuse(netmap.BadInput, "%s does not fit into a record: %s", key, err)
	}
	return nil
}

// sorted is a set in a fixed order.
func (set hostSet) sorted() []netmap.HostID {
	return slices.SortedFunc(maps.Keys(set), netmap.ID.Compare)
}

func (s *State) sortedNetworks() []*network {
	return slices.SortedFunc(maps.Values(s.networks), func(a, b *network) int { return cmp.Compare(a.ID, b.ID) })
}

// HostName returns a host's name for messages.
func (s *State) HostName(id netmap.HostID) string {
	h := s.hosts[id]
	if h == nil || h.Name == "" {
		return "host " + id.Short()
	}
	return fmt.Sprintf("%s (%s)", h.Name, id.Short())
}

// networkName returns a network's name for messages.
func networkName(n *network) string {
	if n.Name != "" {
		return fmt.Sprintf("network %s", n.Name)
	}
	return fmt.Sprintf("network %d (not named yet)", n.ID)
}

// networkOf finds the network that a subnet belongs to, or nil.
func (s *State) networkOf(p netip.Prefix) *network {
	for _, n := range s.sortedNetworks() {
		if slices.Contains(n.Subnets, p) {
			return n
		}
	}
	return nil
}

// subnetName returns a subnet's name for messages.
func (s *State) subnetName(p netip.Prefix) string {
	if n := s.networkOf(p); n != nil {
		return fmt.Sprintf("subnet %s of %s", p, networkName(n))
	}
	return fmt.Sprintf("subnet %s", p)
}
