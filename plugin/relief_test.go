package plugin_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestASmallSubnetIsSharedToItsLastAddress: three hosts, 13 addresses. The one that
// has none left gets those of the others, and in the end the refusal says who holds
// them.
func TestASmallSubnetIsSharedToItsLastAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		ids := make([]string, 0, len(hosts))
		for _, h := range hosts {
			ids = append(ids, h.network("small", "10.40.0.0/28"))
		}
		seen := map[netip.Addr]string{}
		take := func(n int, name string) {
			got := hosts[n].run(name, ids[n], "").Addrs[0].Addr()
			if by := seen[got]; by != "" {
				t.Errorf("%s is held by %s and %s", got, by, name)
			}
			seen[got] = name
		}
		drop := func(n int, name string) {
			held, _ := hosts[n].docker.Container(name)
			if err := hosts[n].docker.Remove(t.Context(), name); err != nil {
				t.Error(err)
			}
			delete(seen, held.Addrs[0].Addr())
		}
		for i := range 13 { // the first host takes all blocks
			take(0, fmt.Sprintf("a%d", i))
		}
		for i := range 5 { // single addresses move
			drop(0, fmt.Sprintf("a%d", i))
		}
		for i := range 3 {
			take(1, fmt.Sprintf("b%d", i))
		}
		for i := range 2 {
			take(2, fmt.Sprintf("c%d", i))
		}
		begin := time.Now()
		_, err := hosts[2].docker.Run(t.Context(), "late", ids[2], netip.Addr{})
		fails(t, begin, err, "no address is free in 10.40.0.0/28", "host-1 has 8, all in use", "host-2 has 3, all in use", "host-3 has 2, all in use", "use a larger subnet")

		drop(1, "b1") // what was lent is lent on
		take(2, "c2")
		for i := 5; i < 13; i++ { // whole blocks move
			drop(0, fmt.Sprintf("a%d", i))
		}
		for i := range 8 {
			take(1, fmt.Sprintf("d%d", i))
		}
		if len(seen) != 13 {
			t.Errorf("%d addresses are in use", len(seen))
		}
		hosts[2].until("all containers are known", time.Second, func() bool { return len(hosts[2].reported("10.40.0.0/28").Endpoints) == 13 })
		hosts[1].stop()
		hosts[2].until("host-2 is noticed to be away", time.Minute, func() bool {
			for _, h := range hosts[2].Report().Hosts {
				if h.Name == "host-2" {
					return h.State != "alive"
				}
			}
			return false
		})
		begin = time.Now()
		_, err = hosts[2].docker.Run(t.Context(), "late", ids[2], netip.Addr{})
		fails(t, begin, err, "host-2 has 10, 10 in use, and does not answer", "weft host rm host-2")
	})
}

// TestWhoIsAskedAndHangsCostsNoMoreThanTheTime: the host with free addresses cannot be
// reached, which the gossip has not noticed yet; the others have none.
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
