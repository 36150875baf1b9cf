package ledger

import (
	"net/netip"
	"testing"
)

// TestHistoryTellsWhoWasGivenWhat in the words that people and scripts read.
func TestHistoryTellsWhoWasGivenWhat(t *testing.T) {
	c := sampleCluster(t)
	c.at = 1700000000000
	c.ok(Command{Kind: KindLeave, Host: hostID(2)})
	count := map[string]int{}
	for _, e := range c.state.Events(Query{}) {
		count[e.What]++
	}
	for what, want := range map[string]int{
		EventFounded: 1, EventJoined: 3, EventRemoved: 1, EventLeft: 1, EventRange: 3, EventSubnet: 1, EventReserved: 1,
		EventNetwork: 1, EventRetired: 1, EventGranted: 5, EventCeded: 1, EventReturned: 4, EventTaken: 0,
	} {
		if count[what] != want {
			t.Errorf("%d times %s, want %d", count[what], what, want)
		}
	}
	last := c.state.Events(Query{Space: netip.PrefixFrom(ip("10.40.0.7"), 32), Limit: 1})
	if len(last) != 1 || last[0].What != EventReturned || last[0].Host != hostID(2) || last[0].Name != "host-2" || last[0].At != c.at {
		t.Errorf("the last word on 10.40.0.7 is %+v", last)
	}
	if got := c.state.Events(Query{Since: c.at}); len(got) == 0 || got[0].What != EventLeft {
		t.Errorf("since then: %+v", got)
	}
	if got := c.state.Events(Query{Host: hostID(3)}); len(got) != 2 || got[1].What != EventRemoved || got[1].By != hostID(1) {
		t.Errorf("of host 3: %+v", got)
	}
}

// TestHistoryIsBounded and survives snapshots.
func TestHistoryIsBounded(t *testing.T) {
	c := newCluster(t, 1)
	c.ok(Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{Want: pfx(web)}})
	apply := func(cmd Command) Reply { // without the checks of a cluster, which cost more
		c.index++
		cmd.Host, cmd.Start, cmd.Nonce = hostID(1), 1, 7
		r, _ := c.state.Apply(c.index, cmd)
		return r
	}
	for range maxHistory {
		r := apply(Command{Kind: KindClaim, Claim: &Claim{Subnet: pfx(web), Addr: ip("10.40.0.77")}})
		apply(Command{Kind: KindUnclaim, Unclaim: &Unclaim{Addr: ip("10.40.0.77"), Epoch: r.Claim.Epoch}})
	}
	if n := len(c.state.history); n < maxHistory || n > maxHistory+historySlop {
		t.Fatalf("%d events are kept", n)
	}
	b, err := c.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := back.Events(Query{Limit: 1}); len(got) != 1 || got[0].Index != c.index {
		t.Errorf("after a snapshot the newest is %+v", got)
	}
	if len(b) > 1<<20 {
		t.Errorf("a snapshot with a full history has %d bytes", len(b))
	}
	t.Logf("%d events in a snapshot of %d bytes", len(c.state.history), len(b))
}

// checkHistory: the last word on each block is what the state says.
func checkHistory(c *cluster) string {
	last := map[netip.Prefix]Event{}
	for _, e := range c.state.history {
		switch e.What {
		case EventGranted, EventCeded, EventReturned, EventTaken:
			last[e.Space] = e
		}
	}
	owned := map[netip.Prefix]bool{}
	for _, s := range c.state.subnets {
		for p, b := range s.blocks {
			owned[p] = true
			if e := last[p]; e.What != EventGranted || e.Host != b.Owner {
				if _, claimed := c.state.claims[p.Addr()]; !claimed || !p.IsSingleIP() {
					return "block " + p.String() + " is owned, and the history says " + e.What
				}
			}
		}
	}
	for a, claim := range c.state.claims {
		p := single(a)
		owned[p] = true
		if e := last[p]; e.Host != claim.Owner && !e.Host.IsZero() {
			return "address " + a.String() + " is claimed, and the history says " + e.What
		}
	}
	for p, e := range last {
		if !owned[p] && e.What != EventReturned && e.What != EventTaken {
			return p.String() + " is nobody's, and the history says " + e.What
		}
	}
	return ""
}
