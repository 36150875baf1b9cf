package plugin_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/settings"
)

// own is the only address that a host has itself in its kernel, zero if it has none.
func (h *host) own() netip.Addr {
	if p := h.kernel.HostPorts(); len(p) == 1 && len(p[0].Addrs) == 1 {
		return p[0].Addrs[0]
	}
	return netip.Addr{}
}

func (h *host) has(a string) func() bool { return func() bool { return h.own() == addr(a) } }

// TestHostsAreOnTheirContainersNetworks: a host has an address of its own while it has a container on
// the network and for a while after, and a host that is a member of all networks always.
func TestHostsAreOnTheirContainersNetworks(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		a, b := hosts[0], hosts[1]
		network := a.network("web", "10.40.0.0/24")
		a.run("one", network, "")
		a.until("the host has the last address", 5*time.Second, a.has("10.40.0.254"))
		p := a.kernel.HostPorts()[0]
		if len(p.Subnets) != 1 || p.Subnets[0].String() != "10.40.0.0/24" || p.MTU != 1450 {
			t.Errorf("%+v", p)
		}
		self, id := a.Report().Self, a.reported("10.40.0.0/24").ID
		b.until("b knows where that is", 5*time.Second, func() bool {
			e, ok := b.View().Holder(id, addr("10.40.0.254"))
			return ok && e.ID == netmap.HostEndpoint(self, id) && e.Host == self
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.kernel.HostPorts(); len(got) != 0 {
			t.Errorf("a host without containers has %+v", got)
		}
		b.stop()
		b.set.MemberOf = settings.MemberOf{All: true}
		b.start()
		b.until("the member of all networks is on it", 30*time.Second, b.has("10.40.0.253"))

		if err := a.docker.Remove(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		a.restart()
		a.ready()
		a.run("two", network, "")
		a.until("the host keeps its address", 5*time.Second, a.has("10.40.0.254"))
		if err := a.docker.Remove(t.Context(), "two"); err != nil {
			t.Fatal(err)
		}
		a.until("the host is off the network", 2*time.Minute, a.has(""))
		if got := b.own(); got != addr("10.40.0.253") {
			t.Errorf("the member has %s", got)
		}
	})
}

// TestAHostsAddressAndItsIdentity: a host that was removed takes a new identity, and is on the network
// with an address of its own again.
func TestAHostsAddressAndItsIdentity(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		hosts := up(c, 2)
		a, b := hosts[0], hosts[1]
		network := a.network("web", "10.40.0.0/24")
		b.until("the network", 30*time.Second, func() bool { return b.lookup("web") != "" })
		b.run("two", b.lookup("web"), "")
		a.run("one", network, "")
		b.until("its address", 5*time.Second, func() bool { return b.own().IsValid() })
		b.removedInPassing(a)
		b.reborn()
		id := a.reported("10.40.0.0/24").ID
		b.until("an address under the new identity", time.Minute, func() bool {
			e, ok := a.View().Holder(id, b.own())
			return ok && e.ID == netmap.HostEndpoint(b.Report().Self, id)
		})
	})
}

// TestNetworksWithoutHosts: --internal and weft.host=false.
func TestNetworksWithoutHosts(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a := c.host()
		a.set.MemberOf = settings.MemberOf{All: true}
		a.start()
		a.ready()
		spec := named("closed", "10.41.0.0/24")
		spec.Shown.Options = map[string]string{"weft.host": "false"}
		closed, err := a.docker.CreateNetwork(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		spec = named("internal", "10.42.0.0/24")
		spec.Internal = true
		internal, err := a.docker.CreateNetwork(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		a.run("one", closed, "")
		a.run("two", internal, "")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := a.kernel.HostPorts(); len(got) != 0 {
			t.Errorf("the host has %+v", got)
		}
	})
}
