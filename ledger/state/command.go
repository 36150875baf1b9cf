package state

import (
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Kind says what a command asks for. Kinds are names for ever: a name is never
// given another meaning. The registry kinds says from which feature level on each exists.
type Kind string

// The kinds of command. Each has its arguments in the field of Command of the
// same name, where it has any.
const (
	KindFound           Kind = "found"
	KindAdmit           Kind = "admit"
	KindRenew           Kind = "renew"
	KindRemove          Kind = "remove"
	KindAddRange        Kind = "add-range"
	KindEnsureSubnet    Kind = "ensure-subnet"
	KindUseSubnets      Kind = "use-subnets"
	KindReserve         Kind = "reserve"
	KindGrantBlock      Kind = "grant-block"
	KindReturnBlock     Kind = "return-block"
	KindClaim           Kind = "claim"
	KindCede            Kind = "cede"
	KindUnclaim         Kind = "unclaim"
	KindEnsureNetwork   Kind = "ensure-network"
	KindNameNetwork     Kind = "name-network"
	KindRetireNetwork   Kind = "retire-network"
	KindLeaveNetwork    Kind = "leave-network"
	KindAddName         Kind = "add-name"
	KindRemoveName      Kind = "remove-name"
	KindDeclareHoldings Kind = "declare-holdings"
	KindLeave           Kind = "leave" // the asking host is a member no more
)

// Command is one request for a decision. Ledger.Do fills in who asks. A field that a later
// feature level adds, here or further inside, says so in a tag, such as since:"2".
type Command struct {
	Kind       Kind             `json:"kind"`
	Cluster    netmap.ClusterID `json:"cluster"`               // asked of; zero: whichever answers
	Host       netmap.HostID    `json:"host"`                  // who asks
	Start      uint64           `json:"start"`                 // of the asking agent
	Nonce      uint64           `json:"nonce"`                 // of this start
	Request    uint64           `json:"request,omitempty"`     // numbers this start's requests from 1; 0: not guarded against repetition
	LowestOpen uint64           `json:"lowest_open,omitempty"` // nobody waits for requests below this number any more…
	Over       []uint64         `json:"over,omitempty"`        // …nor for these above it
	Known      uint64           `json:"known,omitempty"`       // the generation that the asking host knows of, if it is not the first
	At         int64            `json:"at,omitempty"`          // leader's clock when it was proposed, Unix milliseconds
	Leader     int              `json:"leader,omitempty"`      // feature level of the leader's release when it was proposed; 0 means 1

	Found           *Found           `json:"found,omitempty"`
	Admit           *Admit           `json:"admit,omitempty"`
	Remove          *Remove          `json:"remove,omitempty"`
	AddRange        *AddRange        `json:"add_range,omitempty"`
	EnsureSubnet    *EnsureSubnet    `json:"ensure_subnet,omitempty"`
	UseSubnets      *UseSubnets      `json:"use_subnets,omitempty"`
	Reserve         *Reserve         `json:"reserve,omitempty"`
	GrantBlock      *GrantBlock      `json:"grant_block,omitempty"`
	ReturnBlock     *ReturnBlock     `json:"return_block,omitempty"`
	Claim           *Claim           `json:"claim,omitempty"`
	Cede            *Cede            `json:"cede,omitempty"`
	Unclaim         *Unclaim         `json:"unclaim,omitempty"`
	EnsureNetwork   *EnsureNetwork   `json:"ensure_network,omitempty"`
	NameNetwork     *NameNetwork     `json:"name_network,omitempty"`
	RetireNetwork   *RetireNetwork   `json:"retire_network,omitempty"`
	LeaveNetwork    *LeaveNetwork    `json:"leave_network,omitempty"`
	AddName         *AddName         `json:"add_name,omitempty"`
	RemoveName      *RemoveName      `json:"remove_name,omitempty"`
	DeclareHoldings *DeclareHoldings `json:"declare_holdings,omitempty"`
}

// Number makes a command the newest request of its start; open are the numbers of those
// that somebody waits for, with this one.
func (c *Command) Number(request uint64, open []uint64) {
	c.Request, c.LowestOpen, c.Over = request, slices.Min(open), nil
	for n := c.LowestOpen; n < request; n++ {
		if !slices.Contains(open, n) {
			c.Over = append(c.Over, n)
		}
	}
}

// Found begins a cluster. It is the first command of every log and the only one
// of its kind that succeeds.
type Found struct {
	Cluster netmap.ClusterID `json:"cluster"`
	Ranges  []netip.Prefix   `json:"ranges"` // without an IPv6 one, a ULA /48 follows from the cluster id
}

// Incarnation is one start of an agent: its number and its random nonce.
type Incarnation struct {
	Start uint64 `json:"start"`
	Nonce uint64 `json:"nonce"`
}

// Admit makes the asking host a member, or shows that a member has started anew.
type Admit struct {
	Name string         `json:"name"` // for people; need not be unique
	Addr netip.AddrPort `json:"addr"` // underlay
	// Level is the feature level of its release; 0 means 1.
	Level int `json:"level,omitempty"`
	// Earlier are earlier starts of the same disk. It must contain the newest
	// start that the ledger knows, else the disk is an older copy. Empty: unknown,
	// then only the start number counts.
	Earlier []Incarnation `json:"earlier,omitempty"`
}

// Remove takes a host out for good: it owns nothing any more, and its identity
// is refused from then on. No host removes itself.
type Remove struct {
	Target netmap.HostID `json:"target"`
	IsOff  bool          `json:"is_off,omitempty"` // an operator's word that the machine is off: the lease need not run out
	// The leader fills in what it observed: for how long it has heard no renewal of
	// the target after that of index Since, in milliseconds of its own running time.
	Unheard int64  `json:"unheard,omitempty"`
	Since   uint64 `json:"since,omitempty"`
	// And which addresses the target's endpoints were last known to hold: machines and
	// caches elsewhere may still believe so, hence they are given out last.
	Held []netip.Addr `json:"held,omitempty"`
}

// AddRange adds address space to carve subnets from.
type AddRange struct {
	Range netip.Prefix `json:"range"`
}

// EnsureSubnet makes the asking host a holder of a subnet that exists or is made.
type EnsureSubnet struct {
	Want      netip.Prefix   `json:"want"`                 // zero: the ledger picks one from the ranges
	V6        bool           `json:"v6,omitempty"`         // with a zero Want: which family
	BlockBits int            `json:"block_bits,omitempty"` // prefix length of blocks; 0: from the subnet's size
	Range     netip.Prefix   `json:"range"`                // --ip-range, kept of whoever makes the subnet; zero: none
	Avoid     []netip.Prefix `json:"avoid,omitempty"`      // with a zero Want: must not overlap these
}

// UseSubnets says which subnets the asking host uses. Its use of all others ends, and its
// part in networks with them: also of what it does not know to have, because the answer
// was lost or its disk is older.
type UseSubnets struct {
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
}

// Gateway is the Name under which Reserve sets a subnet's gateway.
const Gateway = "gateway"

// Reserve keeps an address from ever being handed out. Name Gateway with a zero
// Addr takes the first usable address unless a gateway is set already.
type Reserve struct {
	Subnet netip.Prefix `json:"subnet"`
	Name   string       `json:"name"`
	Addr   netip.Addr   `json:"addr"`
}

// GrantBlock gives the asking host further blocks.
type GrantBlock struct {
	Subnet netip.Prefix `json:"subnet"`
	Within netip.Prefix `json:"within"`          // --ip-range; zero: anywhere in the subnet
	Count  int          `json:"count,omitempty"` // 0 means 1; fewer are given when few are free
	Have   bool         `json:"have,omitempty"`  // answer a block that the host owns within, if there is one, before a new one
	Ahead  bool         `json:"ahead,omitempty"` // no container waits for it: refused where others may need it
}

// ReturnBlock gives a block back. Of another epoch or owner, nothing happens.
type ReturnBlock struct {
	Block netip.Prefix `json:"block"`
	Epoch uint64       `json:"epoch"`
	Late  []netip.Addr `json:"late,omitempty"` // inside, in use until lately: whoever is granted it hands them out last
}

// Claim asks for one address apart from blocks.
type Claim struct {
	Subnet netip.Prefix `json:"subnet"`
	Addr   netip.Addr   `json:"addr"`            // zero: any that lies in no host's block
	Within netip.Prefix `json:"within,omitzero"` // with a zero Addr: --ip-range; zero: anywhere in the subnet
	Host   bool         `json:"host,omitempty"`  // with a zero Addr: for the host itself, from the top, refused where containers may need it
}

// Cede gives one address of the asking host's block to another host.
type Cede struct {
	Addr netip.Addr    `json:"addr"`
	To   netmap.HostID `json:"to"`
}

// Unclaim gives a claimed address back. Of another epoch or owner, nothing happens.
type Unclaim struct {
	Addr  netip.Addr `json:"addr"`
	Epoch uint64     `json:"epoch"`
}

// EnsureNetwork makes the asking host a member of the network with these subnets
// (or, without subnets, of this name), which exists or is made.
type EnsureNetwork struct {
	Subnets   []netip.Prefix `json:"subnets"`
	Name      string         `json:"name,omitempty"` // weft.network; empty: named later or never
	MTU       int            `json:"mtu,omitempty"`  // 0: no opinion
	VNI       netmap.VNI     `json:"vni,omitempty"`  // 0: no opinion
	Multicast bool           `json:"multicast"`
	Host      bool           `json:"host,omitempty"`
	Internal  bool           `json:"internal,omitempty"`
	// Docker is what is known of how Docker shows it, kept of whoever makes the network.
	Docker *netmap.DockerNetwork `json:"docker,omitempty"`
	// Replica is the network that an agent found in the facts and copies: a copy that
	// comes when the network has gone neither makes it anew nor brings it back. 0: a user's.
	Replica netmap.NetworkID `json:"replica,omitempty"`
}

// NameNetwork gives a network its name, and says what Docker shows of it. The first name
// stays; what Docker shows is said by the first who does and changed by the creator only.
type NameNetwork struct {
	ID     netmap.NetworkID      `json:"id"`
	Name   string                `json:"name"`
	Docker *netmap.DockerNetwork `json:"docker,omitempty"`
}

// RetireNetwork marks a network as removed by a user: its name is free, and it
// goes with its last member.
type RetireNetwork struct {
	ID netmap.NetworkID `json:"id"`
}

// LeaveNetwork ends the asking host's membership. The network goes with its last.
type LeaveNetwork struct {
	ID netmap.NetworkID `json:"id"`
}

// AddName gives something outside of containers a name on a network. A name may be given
// several addresses, one after the other.
type AddName struct {
	Name netmap.StaticName `json:"name"`
}

// RemoveName takes such a name away: from one address, or with a zero Addr from all.
type RemoveName struct {
	Name netmap.StaticName `json:"name"`
}

// Reply is the answer to a command. Fields that the kind does not answer are nil. A reply has
// only fields that were known when its kind was added, so whoever asks can read it.
type Reply struct {
	Index   uint64            `json:"index"` // of the decision; wait for the netmap to reach it to read your own writes
	Refusal *netmap.Refusal   `json:"refusal,omitempty"`
	Cluster netmap.ClusterID  `json:"cluster"`
	Level   int               `json:"level,omitempty"`   // the cluster's feature level
	Host    *netmap.HostEntry `json:"host,omitempty"`    // admit, renew; of a refused claim: who owns the address
	Subnet  *netmap.Subnet    `json:"subnet,omitempty"`  // ensure-subnet, reserve
	Block   *netmap.Block     `json:"block,omitempty"`   // grant-block: the first of Blocks; of a refused claim: the block in the way
	Blocks  []netmap.Block    `json:"blocks,omitempty"`  // grant-block
	Claim   *netmap.Claim     `json:"claim,omitempty"`   // claim, cede
	Claims  []netmap.Claim    `json:"claims,omitempty"`  // grant-block: addresses inside that other hosts own, or nobody, being reserved
	Late    []netip.Addr      `json:"late,omitempty"`    // grant-block: addresses inside to be given out last
	Network *netmap.Network   `json:"network,omitempty"` // ensure-network, name-network; of a conflict: the network in the way
}

// Err is the refusal as an error, or nil.
func (r Reply) Err() error {
	if r.Refusal == nil {
		return nil
	}
	return r.Refusal
}
