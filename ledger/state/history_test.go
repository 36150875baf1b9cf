package state

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/netmap"
)

// TestHistoryTellsWhoWasGivenWhat in the words that people and scripts read.
func TestHistoryTellsWhoWasGivenWhat(t *testing.T) {
	c := sampleCluster(t)
	c.at = 1700000000000
	c.ok(Command{Kind: KindLeave, Host: hostID(2)})
	count := map[string]int{}
	for _, e := range c.state.events(Query{}) {
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
	last := c.state.events(Query{Space: netip.PrefixFrom(ip("10.40.0.7"), 32), Limit: 1})
	if len(last) != 1 || last[0].What != EventReturned || last[0].Host != hostID(2) || last[0].Name != "host-2" || last[0].At != c.at {
		t.Errorf("the last word on 10.40.0.7 is %+v", last)
	}
	if got := c.state.events(Query{Since: c.at}); len(got) == 0 || got[0].What != EventLeft {
		t.Errorf("since then: %+v", got)
	}
	if got := c.state.events(Query{Host: hostID(3)}); len(got) != 2 || got[1].What != EventRemoved || got[1].By != hostID(1) {
		t.Errorf("of host 3: %+v", got)
	}
}

// TestHistoryIsBounded in number, by age, and survives snapshots; it says from when on it
// is whole.
func TestHistoryIsBounded(t *testing.T) {
	const start = 1700000000000
	for _, c := range []struct {
		name        string
		claims      int // each is given back, which is another event
		every       time.Duration
		least, most int
	}{
		{"a busy week", mostHistory * 5 / 8, 2 * time.Second, mostHistory, mostHistory + historySlop},
		{"slow years", 3 * leastHistory, time.Hour, leastHistory, leastHistory + historySlop},
		{"a week and more", 3 * leastHistory, 100 * time.Second, 12096, 12096 + historySlop},
		{"a short time", leastHistory, time.Second, 2 * leastHistory, 2*leastHistory + 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, at := claiming(t, start, c.claims, c.every)
			if n := len(state.history); n < c.least || n > c.most {
				t.Errorf("%d events are kept, want %d to %d", n, c.least, c.most)
			}
			past := state.Past(Query{Limit: 1})
			if dropped := 2*c.claims > c.most; dropped != (past.Forgot > 0) {
				t.Errorf("it has forgotten what was until %d", past.Forgot)
			}
			for _, e := range state.history {
				if e.At > 0 && e.At < past.Forgot {
					t.Fatalf("%+v is kept, what was until %d is forgotten", e, past.Forgot)
				}
			}
			b, err := state.Encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := DecodeState(b)
			if err != nil {
				t.Fatal(err)
			}
			if got := back.Past(Query{Limit: 1}); len(got.Events) != 1 || got.Events[0].At != at || got.Forgot != past.Forgot {
				t.Errorf("after a snapshot the newest is %+v", got)
			}
			if per := len(b) / len(state.history); per > 250 {
				t.Errorf("an event has %d bytes in a snapshot", per)
			}
			t.Logf("%d events in a snapshot of %d bytes", len(state.history), len(b))
		})
	}
}

// claiming is a state in which a host claims an address and gives it back so many times,
// so often, and the time of the last.
func claiming(t *testing.T, start int64, times int, every time.Duration) (*State, int64) {
	c := newCluster(t, 1)
	c.ok(Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{Want: pfx(web)}})
	at := start
	apply := func(cmd Command) Reply { // without the checks of a cluster, which cost more
		c.index++
		at += every.Milliseconds() / 2
		cmd.Host, cmd.Start, cmd.Nonce, cmd.At = hostID(1), 1, 7, at
		r, _ := c.state.Apply(c.index, cmd)
		return r
	}
	for range times {
		r := apply(Command{Kind: KindClaim, Claim: &Claim{Subnet: pfx(web), Addr: ip("10.40.0.77")}})
		apply(Command{Kind: KindUnclaim, Unclaim: &Unclaim{Addr: ip("10.40.0.77"), Epoch: r.Claim.Epoch}})
	}
	return c.state, at
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
		p := netmap.Single(a)
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
