package plugin_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// tight has three hosts on a network of 13 addresses.
type tight struct {
	c     *cluster
	hosts []*host
	ids   []string              // of the network, in each host's Docker
	held  map[netip.Addr]string // containers
}

func (c *cluster) tight() *tight {
	c.t.Helper()
	g := &tight{c: c, hosts: up(c, 3, unreplicated), held: map[netip.Addr]string{}}
	for _, h := range g.hosts {
		g.ids = append(g.ids, h.network("small", "10.40.0.0/28"))
	}
	return g
}

// take starts containers on a host, numbered from first to before end.
func (g *tight) take(n int, name string, first, end int) {
	g.c.t.Helper()
	for i := first; i < end; i++ {
		own := fmt.Sprint(name, i)
		got := g.hosts[n].run(own, g.ids[n], "").Addrs[0].Addr()
		if by := g.held[got]; by != "" {
			g.c.t.Errorf("%s is held by %s and %s", got, by, own)
		}
		g.held[got] = own
	}
}

// drop removes containers that take started.
func (g *tight) drop(n int, name string, first, end int) {
	g.c.t.Helper()
	for i := first; i < end; i++ {
		own := fmt.Sprint(name, i)
		held, _ := g.hosts[n].docker.Find(own)
		if err := g.hosts[n].docker.Remove(g.c.t.Context(), own); err != nil {
			g.c.t.Error(err)
		}
		delete(g.held, held.Addrs[0].Addr())
	}
}

// full checks that the third host gets no address, and that its error has these words.
func (g *tight) full(words ...string) {
	g.c.t.Helper()
	begin := time.Now()
	_, err := g.hosts[2].docker.Run(g.c.t.Context(), "late", g.ids[2], netip.Addr{})
	fails(g.c.t, begin, err, words...)
}

// TestASmallSubnetIsSharedToItsLastAddress: three hosts share 13 addresses. A host that has none left
// gets those of the others, and when all are held the refusal says which hosts hold them.
func TestASmallSubnetIsSharedToItsLastAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		g := c.tight()
		g.take(0, "a", 0, 13) // the first host takes all blocks
		g.drop(0, "a", 0, 5)  // single addresses move
		g.take(1, "b", 0, 3)
		g.take(2, "c", 0, 2)
		g.full("no address is free in 10.40.0.0/28", "host-1 has 8, all in use", "host-2 has 3, all in use", "host-3 has 2, all in use", "use a larger subnet")

		g.drop(1, "b", 1, 2) // what was lent is lent on
		g.take(2, "c", 2, 3)
		g.drop(0, "a", 5, 13) // whole blocks move
		g.take(1, "d", 0, 8)
		if len(g.held) != 13 {
			t.Errorf("%d addresses are in use", len(g.held))
		}
		last := g.hosts[2]
		last.until("all containers are known", time.Second, func() bool { return len(last.reported("10.40.0.0/28").Endpoints) == 13 })
		second := g.hosts[1].Report().Self
		g.hosts[1].stop()
		last.until("host-2 is noticed to be away", time.Minute, func() bool { return last.seen(second) != "alive" })
		g.full("host-2 has 10, 10 in use, and does not answer", "weft host rm host-2")
	})
}

// TestWhoIsAskedAndHangsCostsNoMoreThanTheTime: the only host with free addresses cannot be reached,
// which the gossip has not noticed yet. The refusal still comes in time.
func TestWhoIsAskedAndHangsCostsNoMoreThanTheTime(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		ids := make([]string, 0, len(hosts))
		for _, h := range hosts {
			ids = append(ids, h.network("small", "10.40.0.0/28"))
		}
		for i := range 13 {
			hosts[0].run(fmt.Sprintf("a%d", i), ids[0], "")
		}
		if err := hosts[0].docker.Remove(t.Context(), "a0"); err != nil {
			t.Error(err)
		}
		c.net.Cut(hosts[0].addr, hosts[1].addr)
		begin := time.Now()
		_, err := hosts[1].docker.Run(t.Context(), "late", ids[1], netip.Addr{})
		fails(t, begin, err, "host-1")
		c.net.HealAll()
		hosts[1].until("it gets the free address", time.Minute, func() bool {
			_, err := hosts[1].docker.Run(t.Context(), "late", ids[1], netip.Addr{})
			return err == nil
		})
	})
}
