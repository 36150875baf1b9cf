package plugin_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/linux"
)

// ends reports whether the agent is to be followed by another one.
func (h *host) ends() bool {
	select {
	case <-h.Ended():
		return true
	default:
		return false
	}
}

// moveTo gives the host another underlay address, as DHCP does, and opens its agent anew
// when it asks for that, as plugin.Run does.
func (h *host) moveTo(addr netip.Addr) {
	h.c.t.Helper()
	h.c.net.Host(addr)
	h.addr = addr
	h.kernel.Move(addr, 1500, nil)
	h.until("the agent starts again", time.Second, h.ends)
	h.restart()
}

// TestAHostGetsAnotherUnderlayAddress: the address of a keeper or of another host changes. The other hosts
// send to the new address within seconds, the ledger still decides, and no problem is left.
func TestAHostGetsAnotherUnderlayAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 4)
		one := hosts[0]
		network := one.network("web", "10.40.0.0/24")
		far := one.run("far", network, "")
		one.until("three keepers", 30*time.Second, func() bool { return len(one.Report().Ledger.Keepers) == 3 })
		for i, h := range hosts[1:] {
			h.until("the replica", 10*time.Second, func() bool { return h.lookup("web") != "" })
			near := h.run("near", h.lookup("web"), "")
			begin, old := time.Now(), h.addr
			h.moveTo(netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}))
			for _, o := range hosts {
				o.until("it is sent to the new address", 5*time.Second, func() bool { return o == h || o.forwards(at(near)) == h.addr.String() })
			}
			h.until("it sends from the new address", 5*time.Second, func() bool {
				n := h.kernel.Read().Networks
				return h.forwards(at(far)) == one.addr.String() && !slices.ContainsFunc(n, func(n datapath.Network) bool { return n.Source != h.addr })
			})
			t.Logf("%s: from %s to %s in %v", h.set.Name, old, h.addr, time.Since(begin))
			h.ready()
			h.until("a decision is made", 10*time.Second, func() bool {
				_, err := h.docker.CreateNetwork(t.Context(), named(h.set.Name, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 41, byte(i), 0}), 24).String()))
				return err == nil
			})
		}
		for _, h := range hosts {
			h.until("all is well", 30*time.Second, func() bool { return alive(h) == 4 && len(h.Report().Problems) == 0 })
		}
	})
}

// TestTheOnlyKeeperMoves: the other host does not reach the keeper that it trusts any more, says so, and
// trusts the address that its operator names by weft connect.
func TestTheOnlyKeeperMoves(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		two.network("web", "10.40.0.0/24")
		one.moveTo(netip.AddrFrom4([4]byte{192, 0, 2, 100}))
		one.ready()
		two.until("a decision is made", time.Minute, func() bool {
			_, err := two.docker.CreateNetwork(t.Context(), named("two", "10.41.0.0/24"))
			return err == nil
		})
		two.problem(time.Minute, "are not where they were: 192.0.2.1:7950", "weft connect HOST")
		if _, err := two.Connect(t.Context(), api.PeerChange{Peer: "192.0.2.100"}); err != nil {
			t.Fatal(err)
		}
		two.until("no problem is left", time.Minute, func() bool { return len(two.Report().Problems) == 0 })
		two.removedInPassing(one)
		two.reborn()
	})
}

// TestTheUnderlayAddressIsLost: a host loses its underlay address for a while. The agent reports a
// problem and runs on, and the problem ends when the address is back.
func TestTheUnderlayAddressIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		h.kernel.Move(netip.Addr{}, 0, errors.New("no IPv4 address fits eth1"))
		h.problem(time.Second, "lost its underlay address 192.0.2.1", "no IPv4 address fits eth1")
		h.restart() // nor does a start need it
		h.problem(time.Second, "lost its underlay address 192.0.2.1", "no IPv4 address fits eth1")
		h.ready()
		h.kernel.Move(h.addr, 1500, nil)
		h.until("no problem is left", time.Second, func() bool { return len(h.Report().Problems) == 0 })
		if h.ends() {
			t.Error("the agent starts again although its address is as it was")
		}
	})
}

// TestDockerStartsBeforeTheNetwork: at the first start the host has no underlay address. It serves its
// own containers, says what is missing, and joins when it has an address.
func TestDockerStartsBeforeTheNetwork(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		one := c.host()
		late := c.host(one)
		addr := late.addr
		for _, h := range []*host{one, late} {
			h.kernel.Move(netip.Addr{}, 0, linux.ErrNoAddress)
			h.start()
			h.problem(time.Second, "no underlay address yet", "no device that is up")
		}
		one.ready()
		one.run("alone", one.network("web", "10.40.0.0/24"), "")
		one.moveTo(one.addr)
		late.moveTo(addr)
		late.ready()
		for _, h := range c.hosts {
			h.until("all is well", 30*time.Second, func() bool { return alive(h) == 2 && len(h.Report().Problems) == 0 })
		}
	})
}

// TestTheUnderlaysMTUChanges: containers that start from then on get what it carries, on
// all hosts, smaller or larger, and status says whose underlay is the smallest.
func TestTheUnderlaysMTUChanges(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		one.network("web", "10.40.0.0/24")
		two.until("the replica", 10*time.Second, func() bool { return two.lookup("web") != "" })
		for _, mtu := range []int{1400, 9000, 1500} {
			two.kernel.Move(two.addr, mtu, nil)
			want := min(mtu, 1500) - 50
			for _, h := range hosts {
				h.until("the MTU of the network", 2*time.Second, func() bool { return h.reported("10.40.0.0/24").MTU == want })
				h.until("the kernel follows", 2*time.Second, func() bool {
					n := h.kernel.Read().Networks
					return len(n) == 1 && n[0].PortMTU == want
				})
				h.until("the MTU of the host", 2*time.Second, func() bool { return two.mtuAt(h) == mtu })
			}
			if mtu == 1400 {
				one.problem(time.Second, "network web", "an MTU of 1350, not 1450", "host host-2")
			}
		}
		if two.ends() || len(one.Report().Problems) > 0 {
			t.Errorf("the agent starts again: %v; problems %q", two.ends(), one.Report().Problems)
		}
	})
}

// mtuAt is this host's MTU as another one tells it.
func (h *host) mtuAt(o *host) int {
	self := h.Report().Self
	for _, s := range o.Report().Hosts {
		if s.ID == self {
			return s.MTU
		}
	}
	return 0
}
