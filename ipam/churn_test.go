package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

// churn runs random operations on some hosts of one small subnet.
type churn struct {
	t      *testing.T
	chance *rand.Rand
	hosts  []*rig
	cut    []bool
	id     string
	held   map[string]int // address -> host
	met    map[string]int
}

const churnSubnet = "10.40.0.0/27" // 29 addresses in blocks of four

// TestChurn: hosts take and release dynamic and static addresses for days, while agents restart,
// hosts are cut off, answers are lost and disks fail. No address is ever held twice. In the end the
// records of all hosts equal the ledger's, and every address can be used from any host.
func TestChurn(t *testing.T) {
	seeds, met := uint64(40), map[string]int{}
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			c := &churn{t: t, chance: rand.New(rand.NewPCG(seed, 7)), held: map[string]int{}, met: met}
			l := ipamtest.NewLedger()
			for n := range 3 {
				c.hosts, c.cut = append(c.hosts, start(t, l, fmt.Sprintf("host-%d", n))), append(c.cut, false)
				c.id = c.hosts[n].network(churnSubnet, "")
			}
			for range 500 {
				c.step()
				c.newest()
			}
			c.end()
			if t.Failed() {
				t.Logf("seed %d:\n%s", seed, l.Story())
			}
		})
		if t.Failed() {
			return
		}
	}
	for _, what := range []string{"answered", "refused", "released", "restarted", "cut", "lost", "disk"} {
		if met[what] == 0 {
			t.Errorf("%s was never met: %v", what, met)
		}
	}
	t.Log(met)
}

func (c *churn) step() {
	n := c.chance.IntN(len(c.hosts))
	r := c.hosts[n]
	switch k := c.chance.IntN(100); {
	case k < 35:
		_ = c.ask(n, "")
	case k < 50:
		_ = c.ask(n, fmt.Sprintf("10.40.0.%d", 2+c.chance.IntN(29)))
	case k < 80:
		c.release()
	case k < 90:
		time.Sleep(time.Duration(c.chance.Int64N(int64(15 * time.Minute))))
	case k < 92:
		c.restart(n)
	case k < 94 && !c.cut[n]:
		r.host.Cut()
		c.cut[n] = true
		c.met["cut"]++
	case k < 96 && c.cut[n]:
		r.host.Heal()
		c.cut[n] = false
	case k < 98:
		r.host.LoseAnswer()
		c.met["lost"]++
	case k < 99:
		r.disk.Fail(errors.New("disk is full"))
		c.met["disk"]++
	default:
		r.disk.Fail(nil)
	}
}

// newest checks that no host takes its disk for an older copy. None of them is.
func (c *churn) newest() {
	for n, r := range c.hosts {
		if how, err := r.Outdated(r.host.SubnetFacts); how != "" || err != nil {
			c.t.Fatalf("host %d is told that its disk is old: %s, %v", n, how, err)
		}
	}
}

func (c *churn) ask(n int, want string) error {
	ctx, cancel := context.WithTimeout(docker, 4500*time.Millisecond)
	defer cancel()
	got, err := c.hosts[n].ask(ctx, c.id, want)
	if err != nil {
		c.met["refused"]++
		return err
	}
	c.met["answered"]++
	if by, taken := c.held[got]; taken {
		c.t.Fatalf("%s is given to host %d and held on host %d", got, n, by)
	}
	c.held[got] = n
	c.hosts[n].hold(got)
	return nil
}

// release ends a container. The plugin's error is ignored, as Docker does.
func (c *churn) release() {
	all := make([]string, 0, len(c.held))
	for a := range c.held {
		all = append(all, a)
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	a := all[c.chance.IntN(len(all))]
	r := c.hosts[c.held[a]]
	delete(c.held, a)
	r.endpoints.Delete(addrOf(a))
	_ = r.EndpointGone(addrOf(a))
	_, _ = r.ReleaseAddress(docker, ipam.AddressRelease{PoolID: c.id, Address: a})
	c.met["released"]++
}

// restart kills the agent of a host and starts it again. The containers keep running.
func (c *churn) restart(n int) {
	old := c.hosts[n]
	old.disk.Fail(nil)
	old.Close()
	next := &rig{t: c.t, host: old.host, disk: old.disk.Copy()}
	old.endpoints.Range(func(a, who any) bool {
		next.endpoints.Store(a, who)
		return true
	})
	c.hosts[n] = boot(c.t, next)
	c.met["restarted"]++
}

// end ends all faults and compares the records of the hosts with the ledger.
func (c *churn) end() {
	for n, r := range c.hosts {
		r.disk.Fail(nil)
		if c.cut[n] {
			r.host.Heal()
		}
		// The answer that was to be lost is this one.
		_, _ = r.host.EnsureSubnet(docker, ipam.SubnetRequest{Want: netip.MustParsePrefix(churnSubnet)})
	}
	time.Sleep(45 * time.Minute)
	for n, r := range c.hosts {
		facts, _ := r.host.SubnetFacts(netip.MustParsePrefix(churnSubnet))
		var blocks []netmap.Block
		stock := r.Inventory()[0]
		for _, b := range stock.Blocks {
			blocks = append(blocks, b.Block)
		}
		byText := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
		byAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(facts.Blocks, blocks, byText); diff != "" {
			c.t.Errorf("host %d: blocks (-ledger +host):\n%s", n, diff)
		}
		if diff := cmp.Diff(facts.Claims, stock.Claims, byText, byAddr); diff != "" {
			c.t.Errorf("host %d: claims (-ledger +host):\n%s", n, diff)
		}
		if keys := append(r.disk.Keys("return/"), r.disk.Keys("unclaim/")...); len(keys) > 0 {
			c.t.Errorf("host %d: left on disk: %q", n, keys)
		}
	}
	for n := 0; len(c.held) < 29 && !c.t.Failed(); n++ {
		if err := c.ask(n%len(c.hosts), ""); err != nil {
			c.t.Errorf("host %d gets none although %d of 29 are in use: %v", n%len(c.hosts), len(c.held), err)
		}
	}
	for _, r := range c.hosts {
		r.Close()
	}
}
