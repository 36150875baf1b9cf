package plugin_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// TestTwoOwnersCedeForOneRequest: the first owner's answer arrives after the second one was asked and has
// ceded an address too. The address that is not needed is returned.
func TestTwoOwnersCedeForOneRequest(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		var m midway
		hosts := up(c, 3, unreplicated, func(h *host) {
			if len(c.hosts) == 1 {
				m = h.heldUp(state.KindCede, true)
				m.used.Store(true)
			}
		})
		ids := make([]string, 0, len(hosts))
		for _, h := range hosts {
			ids = append(ids, h.network("small", "10.40.0.0/28"))
		}
		for i := range 12 {
			hosts[0].run(fmt.Sprintf("a%d", i), ids[0], "")
		}
		hosts[1].run("b", ids[1], "")
		for owner, name := range map[*host][]string{hosts[0]: {"a1", "a9"}, hosts[1]: {"b"}} {
			for _, n := range name {
				if err := owner.docker.Remove(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
		}
		hosts[2].until("it is known who has what", time.Second, func() bool { return len(slices.Collect(hosts[2].View().Endpoints())) == 10 })
		m.used.Store(false)
		begin := time.Now()
		hosts[2].run("heir", ids[2], "")
		if took := time.Since(begin); took < time.Second || took > 5*time.Second {
			t.Errorf("it took %v, want the time that the first is given", took)
		}
		select {
		case <-m.hit:
		default:
			t.Fatal("the first owner was not asked")
		}
		close(m.on)
		claims := func() (n int) {
			for _, claim := range hosts[2].View().Claims {
				if claim.Owner == hosts[2].Report().Self {
					n++
				}
			}
			return n
		}
		hosts[2].until("both have ceded", time.Second, func() bool { return claims() == 2 })
		hosts[2].until("one address went back", 5*time.Minute, func() bool { return claims() == 1 })
		for i := range 2 { // nothing is lost
			hosts[0].until("the others can be had", 3*time.Minute, func() bool {
				_, err := hosts[0].docker.Run(t.Context(), fmt.Sprintf("again-%d", i), ids[0], netip.Addr{})
				return err == nil
			})
		}
		nobodyTwice(t, hosts)
	})
}

// TestOverlappingSubnetsAtOnce: two operators create overlapping networks on two hosts at the same time. One
// of them is refused with the name of the other network.
func TestOverlappingSubnetsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		subnets := []string{"10.50.0.0/16", "10.50.128.0/17"}
		errs := make([]error, 2)
		begin := time.Now()
		var all sync.WaitGroup
		for i, subnet := range subnets {
			all.Go(func() {
				_, errs[i] = hosts[i+1].docker.CreateNetwork(t.Context(), named(fmt.Sprint("net-", i), subnet))
			})
		}
		all.Wait()
		won := 0
		if errs[0] != nil {
			won = 1
		}
		if errs[won] != nil {
			t.Fatalf("none was made: %v", errs)
		}
		fails(t, begin, errs[1-won], "overlaps", subnets[won])
	})
}

// TestOneFamilyIsUsedUp: the refusal names the family without a free address, and no address of the other
// family stays held.
func TestOneFamilyIsUsedUp(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1, unreplicated)[0]
		id, err := h.docker.CreateNetwork(t.Context(), dockerapi.ReplicaSpec{Name: "dual", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{
			{Subnet: netip.MustParsePrefix("10.41.0.0/29")}, {Subnet: netip.MustParsePrefix("fd41::/64")},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			h.run(fmt.Sprintf("c%d", i), id, "")
		}
		inUse := func() (n uint64) {
			for _, s := range h.reported("fd41::/64").Subnets {
				for _, b := range s.Blocks {
					if s.Prefix.Addr().Is6() && b.Used != nil {
						n += *b.Used
					}
				}
			}
			return n
		}
		before := inUse()
		for range 20 {
			begin := time.Now()
			_, err := h.docker.Run(t.Context(), "late", id, netip.Addr{})
			fails(t, begin, err, "10.41.0.0/29", "no address is free")
			_ = h.docker.Remove(t.Context(), "late")
		}
		if after := inUse(); before < 5 || after != before {
			t.Errorf("%d addresses of fd41::/64 are in use, after the refusals %d", before, after)
		}
	})
}

// TestAMachineIsSetUpAnew: a machine is installed again with its name and underlay address. It is a new host,
// and the addresses of the old one stay held until that is removed.
func TestAMachineIsSetUpAnew(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 4, unreplicated)
		_, rest := c.keepers(3)
		anew, other := rest[0], hosts[0]
		id := other.network("web", "10.40.0.0/24")
		held := at(anew.run("before", anew.network("web", "10.40.0.0/24"), ""))
		former := anew.Report().Self
		other.until("it is known", time.Second, func() bool { return other.placed(held) == former })
		anew.stop()
		for _, dir := range []string{anew.set.State, anew.config().Volatile} {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		anew.docker, anew.kernel = plugintest.NewEngine(anew.set.Name), plugintest.NewKernel(anew.addr, 1500)
		anew.start().ready()
		if anew.Report().Self == former {
			t.Fatal("an empty disk is the same host")
		}
		network := anew.network("web", "10.40.0.0/24")
		for i := range 20 {
			if got := at(anew.run(fmt.Sprintf("c%d", i), network, "")); got == held {
				t.Errorf("%s, which its former self holds, was handed out", got)
			}
		}
		begin := time.Now()
		_, err := other.docker.Run(t.Context(), "thief", id, held)
		fails(t, begin, err, held.String(), "held by container before")
		if _, err := other.RemoveHost(t.Context(), api.Removal{Host: former.String(), IsOff: true}); err != nil {
			t.Fatal(err)
		}
		other.run("heir", id, held.String())
		if h, ok := other.View().Host(anew.Report().Self); !ok || h.Entry.Removed || h.Entry.ID == (netmap.HostID{}) {
			t.Errorf("with its former self it was removed: %+v", h.Entry)
		}
	})
}
