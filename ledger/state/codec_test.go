package state

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/netmap"
)

func samples() []Command {
	h := hostID(1)
	return []Command{
		{Kind: KindFound, Host: h, Found: &Found{Cluster: clusterID, Ranges: subnets("10.32.0.0/12")}},
		{Kind: KindAdmit, Host: h, Start: 2, Nonce: 1 << 63, Admit: &Admit{Name: "a", Addr: netip.MustParseAddrPort("192.0.2.1:7950"), Earlier: []Incarnation{{1, 7}}}},
		{Kind: KindRenew, Host: h, At: 1700000000000},
		{Kind: KindRemove, Host: h, Remove: &Remove{Target: hostID(2), IsOff: true}},
		{Kind: KindAddRange, Host: h, AddRange: &AddRange{pfx("10.99.0.0/16")}},
		{Kind: KindEnsureSubnet, Host: h, Request: 6, LowestOpen: 3, Over: []uint64{4}, EnsureSubnet: &EnsureSubnet{V6: true, Avoid: subnets("10.0.0.0/8")}},
		{Kind: KindUseSubnets, Host: h, UseSubnets: &UseSubnets{subnets(web)}},
		{Kind: KindReserve, Host: h, Reserve: &Reserve{Subnet: pfx(web), Name: Gateway}},
		{Kind: KindGrantBlock, Host: h, GrantBlock: &GrantBlock{Subnet: pfx(web), Count: 2}},
		{Kind: KindReturnBlock, Host: h, ReturnBlock: &ReturnBlock{Block: pfx("10.40.0.0/28"), Epoch: 7}},
		{Kind: KindClaim, Host: h, Claim: &Claim{Subnet: pfx(web), Addr: ip("10.40.0.7")}},
		{Kind: KindCede, Host: h, Cede: &Cede{ip("10.40.0.7"), hostID(2)}},
		{Kind: KindUnclaim, Host: h, Unclaim: &Unclaim{ip("10.40.0.7"), 9}},
		{Kind: KindEnsureNetwork, Host: h, EnsureNetwork: &EnsureNetwork{Subnets: subnets(web), Name: "n", Docker: sampleDocker()}},
		{Kind: KindNameNetwork, Host: h, NameNetwork: &NameNetwork{ID: 5, Name: "n", Docker: sampleDocker()}},
		{Kind: KindRetireNetwork, Host: h, RetireNetwork: &RetireNetwork{5}},
		{Kind: KindLeaveNetwork, Host: h, LeaveNetwork: &LeaveNetwork{5}},
		{Kind: KindLeave, Host: h},
		{Kind: KindAddName, Host: h, AddName: &AddName{netmap.StaticName{Network: 5, Name: "nas", Addr: ip("192.0.2.7")}}},
		{Kind: KindRemoveName, Host: h, RemoveName: &RemoveName{netmap.StaticName{Network: 5, Name: "nas"}}},
		{Kind: KindDeclareHoldings, Host: h, Known: NextGeneration(1, 3), DeclareHoldings: &DeclareHoldings{
			Holdings: []Holding{{Subnet: netmap.Subnet{Prefix: pfx(web), BlockBits: 28}, Blocks: []netmap.Block{{Prefix: pfx("10.40.0.0/28"), Subnet: pfx(web), Owner: h, Epoch: 7}}, Claims: []netmap.Claim{{Addr: ip("10.40.0.77"), Subnet: pfx(web), Owner: h, Epoch: 9}}}},
			Networks: []netmap.Network{{ID: 4, Name: "n", VNI: netmap.FirstVNI, Subnets: subnets(web)}},
		}},
	}
}

func TestCommandsComeBackAsTheyWere(t *testing.T) {
	seen := map[Kind]bool{}
	for _, want := range samples() {
		seen[want.Kind] = true
		b, err := EncodeCommand(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeCommand(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if diff := cmp.Diff(want, got, exact); diff != "" {
			t.Errorf("%s: %s", want.Kind, diff)
		}
	}
	for kind, rule := range kinds {
		if rule.since == 1 && !seen[kind] {
			t.Errorf("kind %s has no sample", kind)
		}
	}
}

func TestNewerAndBrokenCommands(t *testing.T) {
	for text, newer := range map[string]bool{
		`{"v":99,"body":{}}`: true,
		`{"v":1,"body":{"kind":"teleport","host":"01aa0000000000000000000000000000","cluster":"00000000000000000000000000000000"}}`: true,
		`{"v":1,"body":{"kind":"renew","surprise":1}}`: false,
		`{"v":1,"body":{"kind":"grant-block"}}`:        false,
		`{"v":1}`:                                      false,
		`{"v":0,"body":{"kind":"renew"}}`:              false,
		`{"v":1,"body":{"kind":"renew"}} {"v":1}`:      false,
		`null`:    false,
		``:        false,
		`[1,2,3]`: false,
		`{"v":1,"body":{"kind":"renew","host":"short"}}`: false,
	} {
		_, err := DecodeCommand([]byte(text))
		if err == nil || errors.Is(err, ErrNewer) != newer {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := DecodeCommand(make([]byte, MaxCommand+1)); err == nil {
		t.Error("a command over the limit was read")
	}
}

// grown is a state with something of everything in it.
func grown(t testing.TB) *cluster {
	c := newCluster(t, 3)
	for h := 1; h <= 3; h++ {
		c.ok(ensure(h, web))
		c.ok(networkOf(h, EnsureNetwork{Subnets: subnets(web), Name: "web"}))
		g := grant(h, web)
		g.Request, g.LowestOpen = 1, 1
		c.ok(g)
	}
	c.ok(reserveOf(1, web, Gateway, "10.40.0.254"))
	c.ok(reserveOf(1, web, "router", "10.40.0.253"))
	c.ok(claimOf(2, web, "10.40.0.99"))
	b := c.ok(grant(3, web)).Block
	c.ok(Command{Kind: KindReturnBlock, Host: hostID(3), ReturnBlock: &ReturnBlock{Block: b.Prefix, Epoch: b.Epoch}})
	c.ok(Command{Kind: KindRemove, Host: hostID(1), Remove: &Remove{Target: hostID(3), IsOff: true}})
	return c
}

func TestSnapshotsComeBackAsTheyWere(t *testing.T) {
	c := grown(t)
	b, err := c.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.Encode()
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("%v: snapshot changed:\n%s\n%s", err, b, again)
	}
	if diff := cmp.Diff(c.state.Changes(), got.Changes(), exact); diff != "" {
		t.Error(diff)
	}
	if got.Applied() != c.index || got.Cluster() != clusterID || got.Generation() != 1 {
		t.Errorf("restored at %d of %s", got.Applied(), got.Cluster())
	}
	// It goes on as the original does.
	for _, s := range []*State{c.state, got} {
		if r, _ := s.Apply(c.index+1, Command{Kind: KindGrantBlock, Host: hostID(2), Start: 1, Nonce: 7, GrantBlock: &GrantBlock{Subnet: pfx(web)}}); r.Refusal != nil {
			t.Error(r.Refusal)
		}
	}
	if x, y := c.state.snapshot(), got.snapshot(); !cmp.Equal(x, y, exact) {
		t.Error(cmp.Diff(x, y, exact))
	}
}

func TestSnapshotsThatBreakAnInvariantAreRefused(t *testing.T) {
	for name, damage := range map[string]func(*snapshot){
		"overlapping subnets": func(s *snapshot) {
			s.Subnets = append(s.Subnets, subnetSnap{Subnet: netmap.Subnet{Prefix: pfx("10.40.0.0/16"), BlockBits: 24}})
		},
		"block outside":           func(s *snapshot) { s.Subnets[0].Blocks[0].Prefix = pfx("10.41.0.0/28") },
		"block of another size":   func(s *snapshot) { s.Subnets[0].Blocks[0].Prefix = pfx("10.40.0.0/27") },
		"block of a removed host": func(s *snapshot) { s.Subnets[0].Blocks[0].Owner = hostID(3) },
		"holder that was removed": func(s *snapshot) { s.Subnets[0].Holders = append(s.Subnets[0].Holders, hostID(3)) },
		"index given twice":       func(s *snapshot) { s.Hosts[1].Entry.Index = s.Hosts[0].Entry.Index },
		"index from nowhere":      func(s *snapshot) { s.LastIndex = 1 },
		"member from nowhere":     func(s *snapshot) { s.Networks[0].Members = []netmap.HostID{hostID(9)} },
		"network without member":  func(s *snapshot) { s.Networks[0].Members = nil },
		"network without subnet":  func(s *snapshot) { s.Networks[0].Network.Subnets = subnets("10.99.0.0/24") },
		"VNI twice": func(s *snapshot) {
			n := s.Networks[0]
			n.Network.ID++
			n.Network.Subnets = nil
			s.Networks = append(s.Networks, n)
		},
		"a level that nobody said": func(s *snapshot) { s.Level = Level + 1 },
		"a level below none":       func(s *snapshot) { s.Level = -1 },
		"member below the level":   func(s *snapshot) { s.Hosts[0].Entry.Level = -1 },
		"claim outside":            func(s *snapshot) { s.Claims[0].Addr = ip("10.41.0.1") },
		"claim of nobody":          func(s *snapshot) { s.Claims[0].Owner = hostID(9) },
		"blocks without number":    func(s *snapshot) { s.Subnets[0].Subnet.BlockBits = 200 },
		"next VNI too large":       func(s *snapshot) { s.NextVNI = maxVNI + 2 },
	} {
		snap := grown(t).state.snapshot()
		damage(&snap)
		b, err := Encode(snap)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodeState([]byte(`{"v":7,"body":{}}`)); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer snapshot: %v", err)
	}
}

func FuzzCommand(f *testing.F) {
	for _, c := range samples() {
		b, err := EncodeCommand(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := DecodeCommand(b)
		if err != nil {
			return
		}
		again, err := EncodeCommand(cmd)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if _, err := DecodeCommand(again); err != nil && len(again) <= MaxCommand {
			t.Fatalf("%s: %v", again, err)
		}
		c := grown(t)
		cmd.Start, cmd.Nonce = 1, 7
		c.do(cmd) // whatever was decoded is applied without a panic and keeps the invariants
	})
}

func FuzzSnapshot(f *testing.F) {
	b, err := grown(f).state.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	empty, err := NewState().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		once, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeState(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := back.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: %s\n%s", err, once, twice)
		}
	})
}

func FuzzReply(f *testing.F) {
	b, err := EncodeReply(Reply{Index: 7, Refusal: netmap.Refuse(netmap.Held, "x"), Block: &netmap.Block{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = DecodeReply(b) })
}

// BenchmarkApply is the cost of one grant in a cluster of 1,000 hosts.
func BenchmarkApply(b *testing.B) {
	s := NewState()
	s.Apply(1, Command{Kind: KindFound, Host: hostID(1), Found: &Found{Cluster: clusterID, Ranges: subnets("10.0.0.0/8")}})
	id := func(n int) netmap.HostID { return netmap.HostID{byte(n), byte(n >> 8), 1} }
	index := uint64(1)
	apply := func(cmd Command) Reply {
		index++
		r, _ := s.Apply(index, cmd)
		return r
	}
	for n := range 1000 {
		apply(Command{Kind: KindAdmit, Host: id(n), Admit: &Admit{Name: "h"}})
		apply(Command{Kind: KindEnsureSubnet, Host: id(n), EnsureSubnet: &EnsureSubnet{Want: pfx("10.0.0.0/8"), BlockBits: 24}})
	}
	for b.Loop() {
		n := rand.IntN(1000)
		r := apply(Command{Kind: KindGrantBlock, Host: id(n), GrantBlock: &GrantBlock{Subnet: pfx("10.0.0.0/8")}})
		if r.Refusal != nil {
			b.Fatal(r.Refusal)
		}
		apply(Command{Kind: KindReturnBlock, Host: id(n), ReturnBlock: &ReturnBlock{Block: r.Block.Prefix, Epoch: r.Block.Epoch}})
	}
}

// BenchmarkRenew is the cost of one renewal of a lease in a cluster of 1,000 hosts, and the size
// of its entry in the log.
func BenchmarkRenew(b *testing.B) {
	c := crowd(b, 1000, "10.32.0.0/20")
	size := 0
	for b.Loop() {
		cmd := Command{Kind: KindRenew, Cluster: clusterID, Host: hostID(1 + rand.IntN(1000)), Start: 1, Nonce: 7, Request: c.index, LowestOpen: c.index, At: 1795000000000, Leader: Level}
		entry, err := EncodeCommand(cmd)
		if err != nil {
			b.Fatal(err)
		}
		size = len(entry)
		read, err := DecodeCommand(entry)
		if err != nil {
			b.Fatal(err)
		}
		c.index++
		if r, changes := c.state.Apply(c.index, read); r.Refusal != nil || len(changes) > 0 {
			b.Fatal(r.Refusal, changes)
		}
	}
	b.ReportMetric(float64(size), "B/entry")
}
