package gossip_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay/lossy"
)

// chaos is a town to which things happen, and what each host last said. Host 1
// and 2 are keepers with one ledger between them.
type chaos struct {
	*town
	chance *rand.Rand
	said   []map[int]bool // containers by host
	index  uint64
	nets   []netmap.Change
	met    map[string]int
}

func (c *chaos) containers(n int) []netmap.Change {
	var out []netmap.Change
	for k := range c.said[n] {
		out = append(out, container(n+1, k))
	}
	return out
}

func (c *chaos) step() {
	n := c.chance.IntN(len(c.hosts))
	h, k := c.hosts[n], c.chance.IntN(20)
	switch what := c.chance.IntN(20); {
	case what < 10 && h.up:
		c.met["say"]++
		change := container(n+1, k)
		if c.said[n][k] = !c.said[n][k]; !c.said[n][k] {
			delete(c.said[n], k)
			change = withdrawn(change)
		}
		h.say(change)
	case what < 12:
		c.decide()
	case what == 12 && h.up:
		c.met["stop"]++
		h.stop()
	case what == 13 && h.up:
		c.met["crash"]++
		h.stack.Crash()
		h.stop()
	case what == 14 && h.up:
		c.met["restart"]++
		c.restart(n)
	case what < 17 && !h.up:
		c.met["start"]++
		c.restart(n)
	case what == 17:
		c.met["cut"]++
		c.net.Cut(addrOf(n+1), addrOf(c.chance.IntN(len(c.hosts))+1))
	case what == 18:
		c.met["one-way"]++
		c.net.CutOneWay(addrOf(n+1), addrOf(c.chance.IntN(len(c.hosts))+1))
	case what == 19 && c.chance.IntN(3) == 0:
		c.met["heal"]++
		c.net.HealAll()
	}
}

// decide is one entry of the ledger, told to the keepers that are up.
func (c *chaos) decide() {
	c.index += 1 + c.chance.Uint64N(3)
	net := netmap.Network{ID: netmap.NetworkID(c.index)}
	change := netmap.Change{Key: netmap.NetworkKey(net.ID), Value: net}
	c.nets = append(c.nets, change)
	c.met["decide"]++
	lead := c.chance.IntN(2)
	for n, h := range c.hosts[:2] {
		if h.up {
			c.publish(h, gossip.Decisions{Cluster: ours, Generation: 1, Index: c.index, Lead: n == lead, Changes: []netmap.Change{change}})
		}
	}
}

func (c *chaos) publish(h *host, d gossip.Decisions) {
	if err := h.PublishDecisions(d); err != nil {
		c.t.Error(err)
	}
}

// restart is the next start of a host; a keeper restores the ledger.
func (c *chaos) restart(n int) {
	h := c.hosts[n]
	h.restart(c.containers(n)...)
	if n < 2 && c.index > 0 {
		c.publish(h, gossip.Decisions{Cluster: ours, Generation: 1, Index: c.index, Whole: true, Changes: c.nets})
	}
}

// TestEverythingThatGoesWrongHeals is invariant 8 as far as this package goes:
// after any faults, once they end, all views are equal within ten seconds and say
// what the hosts said last.
func TestEverythingThatGoesWrongHeals(t *testing.T) {
	met := map[string]int{}
	var worst time.Duration
	for seed := range uint64(12) {
		quality := lossy.Link{Loss: float64(seed%4) * 0.05, Double: 0.05, Delay: time.Millisecond, Jitter: 5 * time.Millisecond}
		bubble(t, quality, func(t *testing.T, w *town) {
			c := &chaos{town: w, chance: rand.New(rand.NewPCG(seed, 1)), met: met}
			for n := range 5 {
				w.host(n+1, ours).cfg.Keeper = n < 2
				c.said = append(c.said, map[int]bool{})
			}
			for n := range c.hosts {
				c.restart(n)
			}
			for range 200 {
				c.step()
				c.pass(time.Duration(c.chance.Int64N(int64(2 * time.Second))))
			}
			w.net.HealAll()
			for n, h := range c.hosts {
				if !h.up {
					c.restart(n)
				}
			}
			took := w.settled(10*time.Second, w.hosts...)
			worst = max(worst, took)
			want := 0
			for n := range c.hosts {
				want += len(c.said[n])
				for _, ch := range c.containers(n) {
					if !has(w.hosts[0].View(), ch) {
						t.Errorf("seed %d: %s is missing", seed, ch.Key)
					}
				}
			}
			v := w.hosts[0].View()
			if len(endpoints(v)) != want || len(v.Networks) != len(c.nets) || v.Decided != c.index {
				t.Errorf("seed %d: %d endpoints, want %d; %d networks, want %d; decided %d, want %d",
					seed, len(endpoints(v)), want, len(v.Networks), len(c.nets), v.Decided, c.index)
			}
		})
	}
	t.Logf("healed within %s; met %s", worst, fmt.Sprint(met))
	for _, fault := range []string{"say", "decide", "stop", "crash", "restart", "start", "cut", "one-way", "heal"} {
		if met[fault] < 5 {
			t.Errorf("%s was met only %d times", fault, met[fault])
		}
	}
}
