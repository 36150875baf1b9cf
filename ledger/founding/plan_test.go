package founding

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

func hostID(n int) netmap.HostID { return netmap.HostID{byte(n), 0xaa} }

func at(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 7950)
}

func electors(numbers ...int) (out []Host) {
	for _, n := range numbers {
		out = append(out, Host{ID: hostID(n), Name: fmt.Sprint("host-", n), Addr: at(n)})
	}
	return out
}

func joining(expect int, seeds ...int) electorate {
	e := electorate{expect: expect}
	for _, n := range seeds {
		e.seeds = append(e.seeds, seed{fmt.Sprint("s", n), []netip.AddrPort{at(n)}})
	}
	return e
}

func TestWhatAQuorumIs(t *testing.T) {
	moved := Host{ID: hostID(9), Addr: at(1)} // at the address of host 1
	dual := electorate{expect: 1, seeds: []seed{{"a", []netip.AddrPort{at(1), netip.MustParseAddrPort("[fd00::1]:7950")}}}}
	for _, c := range []struct {
		name  string
		e     electorate
		hosts []Host
		want  bool
	}{
		{"all", joining(3, 1, 2, 3), electors(1, 2, 3), true},
		{"one is missing", joining(3, 1, 2, 3), electors(1, 2), false},
		{"a majority was asked for", joining(2, 1, 2, 3), electors(1, 3), true},
		{"half of the named", joining(2, 1, 2, 3, 4), electors(1, 3), false},
		{"without the one seed", joining(3, 1), electors(2, 3, 4), false},
		{"with the one seed", joining(3, 1), electors(1, 3, 4), true},
		{"the others only", joining(3, 2, 3), electors(1, 2, 3), true},
		{"two at one address are one", joining(3, 1, 2, 3), append(electors(1, 2), moved), false},
		{"a name that cannot be resolved counts", electorate{expect: 1, seeds: []seed{{"a", []netip.AddrPort{at(1)}}, {"b", nil}}}, electors(1), false},
		{"of two families this host's counts", dual, electors(1), true},
		{"alone", joining(1, 1), electors(1), true},
		{"as many as are named", joining(All, 1, 2, 3), electors(1, 2, 3), true},
		{"one less than are named", joining(All, 1, 2, 3), electors(1, 3), false},
		{"as many, with one that is not named", joining(All, 1, 2, 3), electors(1, 3, 4), true},
		{"as many, and one of two lists is not there", electorate{expect: All, seeds: []seed{{"a", []netip.AddrPort{at(1), at(2)}}, {"b", nil}}}, electors(1, 2), true},
		{"no list is there", electorate{expect: All, seeds: []seed{{"a", nil}}}, electors(1, 2, 3), false},
		{"nothing is named", electorate{expect: All}, electors(1), false},
	} {
		if got := c.e.count(c.hosts, false).quorum(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestAPlanWithoutKeepersLeftIsGivenUp(t *testing.T) {
	accepted := func(b uint64, cluster byte, keepers ...int) acceptor {
		p := &Plan{Cluster: netmap.ClusterID{cluster}, Keepers: firstKeepers(hostID(keepers[0]), electors(keepers...))}
		return acceptor{Accepted: ballot{Round: b}, Plan: p}
	}
	wiped := func(n int) Host { return Host{ID: hostID(100 + n), Addr: at(n)} } // the same machine, another identity
	fresh := func() *Plan { return &Plan{Cluster: netmap.ClusterID{0xff}} }
	for _, c := range []struct {
		name   string
		has    map[int]acceptor
		quorum []Host
		want   byte
	}{
		{"nothing was accepted", nil, electors(1, 2, 3), 0xff},
		{"the greatest ballot", map[int]acceptor{1: accepted(1, 1, 1, 2, 3), 2: accepted(2, 2, 1, 2, 3)}, electors(1, 2, 3), 2},
		{"one of three lost its disk", map[int]acceptor{2: accepted(2, 2, 1, 2, 3)}, append(electors(2, 3), wiped(1)), 2},
		{"two of three lost their disks", map[int]acceptor{2: accepted(2, 2, 1, 2, 3)}, append(electors(2), wiped(1), wiped(3)), 0xff},
		{"the only one lost its disk", map[int]acceptor{2: accepted(2, 2, 1)}, append(electors(2), wiped(1)), 0xff},
	} {
		promises := map[netmap.HostID]acceptor{}
		for n, a := range c.has {
			promises[hostID(n)] = a
		}
		if got := choosePlan(promises, c.quorum, fresh); got.Cluster[0] != c.want {
			t.Errorf("%s: plan %x", c.name, got.Cluster[0])
		}
	}
}

// parliament is some hosts that found together while everything goes wrong.
type parliament struct {
	voters    electorate
	machines  int
	ids       []int // present identity of each machine: a lost disk gives another
	disks     map[int]acceptor
	lastID    int
	rounds    uint64
	attempts  []*attempt
	lost      int // disks
	chosen    map[netmap.ClusterID]*Plan
	plansMade byte
}

// attempt is a ballot of one host, whose questions arrive late, or never.
type attempt struct {
	by       int // identity
	machine  int
	ballot   ballot
	promised map[netmap.HostID]acceptor
	yes      []Host
	plan     *Plan
	accepted []Host
}

func (p *parliament) elector(machine int) Host {
	return Host{ID: hostID(p.ids[machine]), Addr: at(machine + 1)}
}

func (p *parliament) begin(machine int) {
	p.rounds++
	a, _ := p.disks[p.ids[machine]].prepare(ballot{p.rounds, hostID(p.ids[machine])})
	p.disks[p.ids[machine]] = a
	try := &attempt{by: p.ids[machine], machine: machine, ballot: a.Promised, promised: map[netmap.HostID]acceptor{}}
	p.attempts = append(p.attempts, try)
	p.hear(try, machine, a)
}

func (p *parliament) hear(try *attempt, machine int, a acceptor) {
	try.promised[hostID(p.ids[machine])] = a
	try.yes = append(try.yes, p.elector(machine))
}

// deliver lets one question of a ballot reach a machine, and its answer return.
func (p *parliament) deliver(try *attempt, machine int) {
	id := p.ids[machine]
	if _, did := try.promised[hostID(id)]; try.plan == nil && !did {
		if a, ok := p.disks[id].prepare(try.ballot); ok {
			p.disks[id] = a
			p.hear(try, machine, a)
		}
		return
	}
	asked := false
	for _, h := range try.yes {
		asked = asked || h.ID == hostID(id)
	}
	if try.plan == nil || !asked {
		return
	}
	if a, ok := p.disks[id].accept(try.ballot, try.plan); ok {
		p.disks[id] = a
		for _, h := range try.accepted {
			if h.ID == hostID(id) {
				return
			}
		}
		try.accepted = append(try.accepted, p.elector(machine))
		if p.voters.count(try.accepted, false).quorum() {
			p.chosen[try.plan.Cluster] = try.plan
		}
	}
}

// settle lets a proposer that still runs go on to its second question.
func (p *parliament) settle(try *attempt) {
	if try.plan != nil || p.ids[try.machine] != try.by || !p.voters.count(try.yes, false).quorum() {
		return
	}
	try.plan = choosePlan(try.promised, try.yes, func() *Plan {
		p.plansMade++
		return &Plan{Cluster: netmap.ClusterID{p.plansMade}, Keepers: firstKeepers(hostID(try.by), try.yes)}
	})
}

// alive are the chosen plans of which a majority of the keepers has its disk.
func (p *parliament) alive() (n int) {
	for _, plan := range p.chosen {
		left := 0
		for _, id := range p.ids {
			if plan.Keeps(hostID(id)) {
				left++
			}
		}
		if 2*left > len(plan.Keepers) {
			n++
		}
	}
	return n
}

// TestOnePlanIsChosen whatever is late, lost, repeated or crashes, and also when
// disks are lost, as long as these are not all the hosts that two quorums share.
func TestOnePlanIsChosen(t *testing.T) {
	founded := 0
	rapid.Check(t, func(t *rapid.T) {
		p := &parliament{machines: rapid.IntRange(1, 6).Draw(t, "machines"), disks: map[int]acceptor{}, chosen: map[netmap.ClusterID]*Plan{}}
		seeds := make([]int, p.machines)
		for m := range p.machines {
			seeds[m] = m + 1
			p.ids = append(p.ids, m+1)
		}
		p.lastID = p.machines
		expect := rapid.IntRange(1, p.machines).Draw(t, "expect")
		p.voters = joining(expect, seeds...)
		if expect == p.machines && rapid.Bool().Draw(t, "all") {
			p.voters.expect = All
		}
		least := max(expect, p.machines/2+1) // hosts of a quorum
		spare := 2*least - p.machines - 1    // so many lost disks leave one that two quorums share
		machine := func() int { return rapid.IntRange(0, p.machines-1).Draw(t, "machine") }
		ballotOf := func() *attempt {
			if len(p.attempts) == 0 {
				t.Skip("no ballot")
			}
			return p.attempts[rapid.IntRange(0, len(p.attempts)-1).Draw(t, "ballot")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin":    func(*rapid.T) { p.begin(machine()) },
			"deliver":  func(*rapid.T) { p.deliver(ballotOf(), machine()) },
			"deliver2": func(*rapid.T) { p.deliver(ballotOf(), machine()) },
			"everyone": func(*rapid.T) {
				for try, m := ballotOf(), 0; m < p.machines; m++ {
					p.deliver(try, m)
				}
			},
			"settle": func(*rapid.T) { p.settle(ballotOf()) },
			"lose a disk": func(t *rapid.T) {
				if p.lost >= spare {
					t.Skip("no more")
				}
				p.lost++
				p.lastID++
				p.ids[machine()] = p.lastID
			},
			"": func(t *rapid.T) {
				if n := p.alive(); n > 1 {
					t.Fatalf("%d plans were chosen that can be carried out", n)
				}
			},
		})
		founded += len(p.chosen)
	})
	if founded == 0 && !testing.Short() { // of so few runs it may be that none does
		t.Error("no run founded anything")
	}
	t.Logf("%d runs founded", founded)
}

// TestNobodyUsesTheBallotsUp: a stranger that could promise or have accepted the last one
// would leave none, or have the next proposers share his.
func TestNobodyUsesTheBallotsUp(t *testing.T) {
	stranger := hostID(66)
	a := acceptor{Promised: ballot{5, hostID(1)}}
	for _, round := range []uint64{5 + maxSkip + 1, 1<<64 - 1} {
		if _, ok := a.prepare(ballot{round, stranger}); ok {
			t.Errorf("ballot %d is promised", round)
		}
		if _, ok := a.accept(ballot{round, stranger}, &Plan{}); ok {
			t.Errorf("a plan is accepted under ballot %d", round)
		}
	}
	if next, ok := a.prepare(ballot{5 + maxSkip, stranger}); !ok || next.Promised.Round != 5+maxSkip {
		t.Errorf("who skips some is refused: %+v", next)
	}
}

// TestFirstKeepersAreDistinct: whoever proposes, the first keeper is he, and none
// is named twice.
func TestFirstKeepersAreDistinct(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 1, 3: 3, 4: 3, 5: 5, 7: 5} {
		var ids []int
		for id := 1; id <= n; id++ {
			ids = append(ids, id)
		}
		for _, self := range ids {
			p := &Plan{Cluster: netmap.ClusterID{1}, Keepers: firstKeepers(hostID(self), electors(ids...))}
			for i := range p.Keepers {
				p.Keepers[i].Addr = netip.MustParseAddrPort("192.0.2.1:7950")
			}
			if refusal := p.check(); refusal != nil || p.Keepers[0].ID != hostID(self) || len(p.Keepers) != want {
				t.Errorf("%d of %d hosts proposes %v: %v", self, n, p.Keepers, refusal)
			}
		}
	}
}

// FuzzQuestion: whatever another host sends, a plan that is checked can be accepted.
func FuzzQuestion(f *testing.F) {
	for _, a := range []question{{}, {Ballot: ballot{3, hostID(1)}, From: electors(1)[0], To: hostID(2), Expect: 3, Plan: &Plan{Cluster: netmap.ClusterID{1}, Keepers: firstKeepers(hostID(1), electors(1, 2, 3)), Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}}}} {
		b, err := state.Encode(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"v":1,"body":{"plan":{"keepers":[{}]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := state.Decode[question](b, state.MaxCommand)
		if err != nil || q.Plan == nil || q.Plan.check() != nil {
			return
		}
		a, ok := acceptor{}.prepare(q.Ballot)
		if !ok {
			return
		}
		if a, ok = a.accept(q.Ballot, q.Plan); !ok || a.Plan.lost(nil) {
			t.Errorf("a plan that was checked is not accepted, or lost: %+v", a)
		}
	})
}

func TestHostsOfTwoReleasesDoNotFoundTogether(t *testing.T) {
	f := &Founder{writing: turn.New(), cfg: Config{Self: hostID(2), Name: "b", Expect: 3, Free: func() error { return nil }, Cluster: func() netmap.ClusterID { return netmap.ClusterID{} }}}
	prepare := func(level int) (acceptor, error) {
		return f.answer(t.Context(), question{To: hostID(2), From: Host{Name: "a"}, Expect: 3, Level: level}, func(a acceptor, _ question) (acceptor, bool) { return a, false })
	}
	if _, err := prepare(state.Level); err != nil {
		t.Error(err)
	}
	for _, level := range []int{0, state.Level + 1} {
		if _, err := prepare(level); !errors.Is(err, &netmap.Refusal{Kind: netmap.Outdated}) || !strings.Contains(err.Error(), "install the same release") {
			t.Errorf("level %d: %v", level, err)
		}
	}
}
