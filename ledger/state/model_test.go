package state

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
)

// The naive model of TestAgainstNaiveModel knows addresses, not blocks: for each
// of them who may hand it out. It is built from replies alone, as hosts do.
type naive struct {
	members map[int]bool
	gone    map[int]bool
	owner   map[netip.Addr]int            // by blocks
	ceded   map[netip.Addr]int            // by claims: beats owner
	blocks  map[netip.Prefix]netmap.Block // granted and neither returned nor lost
	holds   map[int]map[netip.Prefix]bool
}

var modelSubnets = []string{"10.40.0.0/28", "10.40.0.16/29", "10.41.0.0/28", "10.40.0.0/24"}

func (m *naive) dropHost(h int, s netip.Prefix) {
	delete(m.holds[h], s)
	for p, b := range m.blocks {
		if b.Owner == hostID(h) && b.Subnet == s {
			m.dropBlock(p)
		}
	}
	for a, o := range m.ceded {
		if o == h && s.Contains(a) {
			delete(m.ceded, a)
		}
	}
}

func (m *naive) dropBlock(p netip.Prefix) {
	delete(m.blocks, p)
	for a := range m.owner {
		if p.Contains(a) {
			delete(m.owner, a)
		}
	}
}

// TestAgainstNaiveModel drives random commands of four hosts, with repetitions,
// and checks after each that no address belongs to two hosts and that what the
// model knows from the replies is what the state says.
func TestAgainstNaiveModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t, 0, "10.48.0.0/22")
		m := &naive{members: map[int]bool{}, gone: map[int]bool{}, owner: map[netip.Addr]int{}, ceded: map[netip.Addr]int{}, blocks: map[netip.Prefix]netmap.Block{}, holds: map[int]map[netip.Prefix]bool{1: {}, 2: {}, 3: {}, 4: {}}}
		request := uint64(0)
		var log []Command
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			if len(log) > 0 && rapid.IntRange(0, 5).Draw(rt, "repeat") == 0 {
				m.checkRepetition(rt, c, log[rapid.IntRange(0, len(log)-1).Draw(rt, "which")])
				continue
			}
			cmd, host := m.draw(rt)
			request++
			cmd.Host, cmd.Request, cmd.LowestOpen = hostID(host), request, 1
			r := c.do(cmd)
			if m.gone[host] && (r.Refusal == nil || r.Refusal.Kind != netmap.Removed) {
				rt.Fatalf("%s of a removed host was answered %+v", cmd.Kind, r)
			}
			if r.Refusal == nil {
				m.learn(rt, host, cmd, r)
			}
			m.compare(rt, c)
			checkFreeBlocks(rt, c.state)
			if wrong := checkHistory(c); wrong != "" {
				rt.Fatal(wrong)
			}
			if m.members[host] { // else it was refused and nothing is remembered of it
				log = append(log, cmd)
			}
		}
		b, err := c.state.Encode()
		if err != nil {
			rt.Fatal(err)
		}
		back, err := DecodeState(b)
		if err != nil {
			rt.Fatal(err)
		}
		if again, err := back.Encode(); err != nil || !bytes.Equal(b, again) {
			rt.Fatalf("snapshot changed: %v", err)
		}
	})
}

// checkRepetition applies an old command again: nothing may change.
func (m *naive) checkRepetition(rt *rapid.T, c *cluster, cmd Command) {
	before := c.state.Changes()
	c.do(cmd)
	if len(c.last) > 0 {
		rt.Fatalf("%s came again and changed %v", cmd.Kind, c.last)
	}
	if len(before) != len(c.state.Changes()) {
		rt.Fatal("a repetition changed the state without saying so")
	}
}

func (m *naive) draw(rt *rapid.T) (Command, int) {
	host := rapid.IntRange(1, 4).Draw(rt, "host")
	subnet := pfx(rapid.SampledFrom(modelSubnets).Draw(rt, "subnet"))
	addr := subnet.Addr()
	for range rapid.IntRange(0, 15).Draw(rt, "addr") {
		addr = addr.Next()
	}
	switch rapid.SampledFrom([]Kind{KindAdmit, KindAdmit, KindEnsureSubnet, KindEnsureSubnet, KindGrantBlock, KindGrantBlock, KindGrantBlock, KindReturnBlock, KindClaim, KindClaim, KindCede, KindUnclaim, KindEnsureNetwork, KindLeaveNetwork, KindUseSubnets, KindReserve, KindRemove, KindLeave}).Draw(rt, "kind") {
	case KindAdmit:
		return Command{Kind: KindAdmit, Admit: &Admit{Name: "h"}}, host
	case KindEnsureSubnet:
		bits := rapid.SampledFrom([]int{0, 0, 0, 29, 30, 31}).Draw(rt, "block bits")
		return Command{Kind: KindEnsureSubnet, EnsureSubnet: &EnsureSubnet{Want: subnet, BlockBits: bits}}, host
	case KindGrantBlock:
		return Command{Kind: KindGrantBlock, GrantBlock: &GrantBlock{
			Subnet: subnet, Count: rapid.IntRange(0, 3).Draw(rt, "count"), Ahead: rapid.IntRange(0, 3).Draw(rt, "ahead") == 0,
		}}, host
	case KindReturnBlock:
		for _, p := range netmap.SortedPrefixes(m.blocks) {
			if b := m.blocks[p]; p.Contains(addr) {
				return Command{Kind: KindReturnBlock, ReturnBlock: &ReturnBlock{Block: p, Epoch: b.Epoch}}, host
			}
		}
		return Command{Kind: KindReturnBlock, ReturnBlock: &ReturnBlock{Block: subnet, Epoch: 3}}, host
	case KindClaim:
		if rapid.IntRange(0, 2).Draw(rt, "any address") == 0 {
			addr = netip.Addr{}
		}
		return Command{Kind: KindClaim, Claim: &Claim{Subnet: subnet, Addr: addr, Host: !addr.IsValid() && rapid.Bool().Draw(rt, "for the host")}}, host
	case KindCede:
		return Command{Kind: KindCede, Cede: &Cede{addr, hostID(rapid.IntRange(1, 4).Draw(rt, "to"))}}, host
	case KindUnclaim:
		return Command{Kind: KindUnclaim, Unclaim: &Unclaim{addr, rapid.Uint64Range(1, 200).Draw(rt, "epoch")}}, host
	case KindEnsureNetwork:
		return Command{Kind: KindEnsureNetwork, EnsureNetwork: &EnsureNetwork{Subnets: []netip.Prefix{subnet}}}, host
	case KindLeaveNetwork:
		return Command{Kind: KindLeaveNetwork, LeaveNetwork: &LeaveNetwork{netmap.NetworkID(rapid.Uint64Range(1, 200).Draw(rt, "id"))}}, host
	case KindUseSubnets:
		return Command{Kind: KindUseSubnets, UseSubnets: &UseSubnets{[]netip.Prefix{subnet}}}, host
	case KindLeave:
		return Command{Kind: KindLeave}, host
	case KindReserve:
		return Command{Kind: KindReserve, Reserve: &Reserve{Subnet: subnet, Name: Gateway}}, host
	default:
		off := rapid.IntRange(0, 3).Draw(rt, "off") == 0
		return Command{Kind: KindRemove, Remove: &Remove{
			Target: hostID(rapid.IntRange(1, 4).Draw(rt, "target")), IsOff: off,
			Unheard: (lease.Length + lease.Slack).Milliseconds(), Since: rapid.Uint64Range(1, 200).Draw(rt, "since"),
		}}, host
	}
}

// learn is what the asking host, and those it names, conclude from an answer.
func (m *naive) learn(rt *rapid.T, host int, cmd Command, r Reply) {
	switch cmd.Kind {
	case KindAdmit:
		m.members[host] = true
	case KindEnsureSubnet:
		for s := range m.holds {
			for p := range m.holds[s] {
				if p != r.Subnet.Prefix && p.Overlaps(r.Subnet.Prefix) {
					rt.Fatalf("%s was made over %s", r.Subnet.Prefix, p)
				}
			}
		}
		m.holds[host][r.Subnet.Prefix] = true
		m.checkBlockBits(rt, cmd.EnsureSubnet, *r.Subnet)
	case KindGrantBlock:
		for _, b := range r.Blocks {
			for a := b.Prefix.Addr(); b.Prefix.Contains(a); a = a.Next() {
				if o, taken := m.owner[a]; taken {
					rt.Fatalf("%s was granted to host %d and is owned by %d", a, host, o)
				}
				m.owner[a] = host
			}
			m.blocks[b.Prefix] = b
		}
	case KindReturnBlock:
		if b, ok := m.blocks[cmd.ReturnBlock.Block]; ok && b.Owner == hostID(host) && b.Epoch == cmd.ReturnBlock.Epoch {
			m.dropBlock(cmd.ReturnBlock.Block)
		}
	case KindClaim:
		a := r.Claim.Addr
		if o, taken := m.ceded[a]; taken && o != host {
			rt.Fatalf("%s was claimed by %d and is held by %d", a, host, o)
		}
		if o, taken := m.owner[a]; taken && o != host {
			rt.Fatalf("%s was claimed by %d out of a block of %d", a, host, o)
		}
		m.ceded[a] = host
	case KindCede:
		m.ceded[cmd.Cede.Addr] = int(cmd.Cede.To[0])
	case KindUseSubnets:
		for _, s := range modelSubnets {
			if !slices.Contains(cmd.UseSubnets.Prefixes, pfx(s)) {
				m.dropHost(host, pfx(s))
			}
		}
	case KindRemove, KindLeave:
		target := host
		if cmd.Remove != nil {
			target = int(cmd.Remove.Target[0])
		}
		m.gone[target] = true
		for _, s := range modelSubnets {
			m.dropHost(target, pfx(s))
		}
	}
}

// checkBlockBits checks that whoever asks for a size gets it, and that no block
// that was granted has another.
func (m *naive) checkBlockBits(rt *rapid.T, e *EnsureSubnet, got netmap.Subnet) {
	if e.BlockBits != 0 && got.BlockBits != e.BlockBits {
		rt.Fatalf("%s was to have blocks of /%d and has /%d", got.Prefix, e.BlockBits, got.BlockBits)
	}
	for p, b := range m.blocks {
		if b.Subnet == got.Prefix && p.Bits() != got.BlockBits {
			rt.Fatalf("%s was granted, and now blocks of %s are of /%d", p, got.Prefix, got.BlockBits)
		}
	}
}

// compare checks that state and model agree on who may hand out what.
func (m *naive) compare(rt *rapid.T, c *cluster) {
	owned := map[netip.Prefix]netmap.Block{}
	vnis := map[netmap.VNI]bool{}
	claims := map[netip.Addr]int{}
	for _, ch := range c.state.Changes() {
		switch v := ch.Value.(type) {
		case netmap.Block:
			owned[v.Prefix] = v
			if m.gone[int(v.Owner[0])] {
				rt.Fatalf("a removed host owns %s", v.Prefix)
			}
		case netmap.Claim:
			claims[v.Addr] = int(v.Owner[0])
		case netmap.Network:
			if vnis[v.VNI] {
				rt.Fatalf("VNI %d is used twice", v.VNI)
			}
			vnis[v.VNI] = true
		}
	}
	for p, b := range m.blocks {
		if owned[p] != b {
			rt.Fatalf("the model knows %+v, the state has %+v", b, owned[p])
		}
	}
	if len(owned) != len(m.blocks) {
		rt.Fatalf("the state has %d blocks, the model %d", len(owned), len(m.blocks))
	}
	for a, o := range m.ceded {
		if got, ok := claims[a]; ok && got != o {
			rt.Fatalf("%s: the model says host %d, the state %d", a, o, got)
		}
	}
	m.ceded = claims // unclaimed with an epoch that the model does not track
}
