package plugin_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// cni returns the request of a container runtime that is not Docker, as it sends it to the agent's own
// socket.
func cni(network, digit string, addrs ...netip.Addr) api.AttachRequest {
	return api.AttachRequest{
		Owner: netmap.OwnerCNI, Network: network, Container: "pod-" + digit, Addrs: addrs,
		Endpoint: netmap.EndpointID(strings.Repeat(digit, 64)),
	}
}

func (h *host) attaches(r api.AttachRequest) *api.Attachment {
	h.c.t.Helper()
	got, err := h.AttachEndpoint(h.c.t.Context(), r)
	if err != nil {
		h.c.t.Fatalf("%s: attach %s: %v", h.set.Name, r.Container, err)
	}
	return got
}

func (h *host) detaches(r api.AttachRequest) {
	h.c.t.Helper()
	if _, err := h.DetachEndpoint(h.c.t.Context(), api.DetachRequest{Owner: r.Owner, Endpoint: r.Endpoint}); err != nil {
		h.c.t.Fatalf("%s: detach %s: %v", h.set.Name, r.Container, err)
	}
}

// number is the network with a subnet, as AttachRequest may name it.
func (h *host) number(subnet string) string { return fmt.Sprint(h.reported(subnet).ID) }

// announced returns the container that has an address according to the facts, empty if none has.
func (h *host) announced(ip netip.Addr) string {
	for e := range h.View().Endpoints() {
		if e.V4 == ip {
			return e.Name
		}
	}
	return ""
}

// plugged checks whether an endpoint has a port in the kernel.
func (h *host) plugged(id netmap.EndpointID, want bool) {
	h.c.t.Helper()
	got := slices.ContainsFunc(h.kernel.Read().Networks, func(n datapath.Network) bool {
		return slices.ContainsFunc(n.Ports, func(p datapath.Bridged) bool { return p.Endpoint == id })
	})
	if got != want {
		h.c.t.Errorf("%s: endpoint %.12s has a port: %v, want %v", h.set.Name, id, got, want)
	}
}

// TestAContainerWithoutDocker: another runtime than Docker attaches a container on a host whose Docker
// does not have the network. It reaches Docker's containers on other hosts and they reach it. It stays
// when the agent restarts and compares itself with Docker's list, until its runtime detaches it.
func TestAContainerWithoutDocker(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, unreplicated)
		one, two := hosts[0], hosts[1]
		network := one.network("web", "10.40.0.0/24")
		far := one.run("far", network, "")
		pod := cni("10.40.0.0/24", "a")
		two.until("the network is known", 10*time.Second, func() bool { return two.reported("10.40.0.0/24").ID != 0 })
		pod.Network = one.number("10.40.0.0/24")

		got := two.attaches(pod)
		ip := got.Addrs[0].Addr()
		for range 2 {
			if again := two.attaches(pod); again.Interface != got.Interface || again.Addrs[0] != got.Addrs[0] {
				t.Errorf("asked again it got %+v, had %+v", again, got)
			}
			one.until("it is reached", 5*time.Second, func() bool { return one.forwards(ip) == two.addr.String() })
			two.until("it reaches Docker's", 5*time.Second, func() bool { return two.forwards(at(far)) == one.addr.String() })
			two.plugged(pod.Endpoint, true)
			if two.lookup("web") != "" {
				t.Error("Docker has the network, this is about a host on which it has not")
			}
			time.Sleep(5 * time.Minute) // Docker was asked what it has again and again, and addresses were swept
			two.restart()
			two.ready()
		}
		if name := one.announced(ip); name != "pod-a" {
			t.Errorf("the others call it %q", name)
		}
		if _, err := one.docker.Run(t.Context(), "thief", network, ip); err == nil || !strings.Contains(err.Error(), "pod-a") {
			t.Errorf("another container got its address: %v", err)
		}

		for range 2 {
			two.detaches(pod)
		}
		two.plugged(pod.Endpoint, false)
		one.until("it is gone", 5*time.Second, func() bool { return one.announced(ip) == "" })
		if _, err := one.docker.Run(t.Context(), "heir", network, ip); err != nil {
			t.Errorf("its address is not free: %v", err)
		}
		two.until("the host has left the network", time.Minute, func() bool { return two.reported("10.40.0.0/24").MTU == 0 })
	})
}

// TestDockerAndAnotherRuntimeOnOneNetwork: Docker and another runtime use one network on one host. Each
// keeps its own endpoints, also when Docker removes its network.
func TestDockerAndAnotherRuntimeOnOneNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		one := up(c, 1)[0]
		network := one.network("web", "10.40.0.0/24")
		web := one.run("web", network, "")
		one.until("the network and the container have their names", 10*time.Second, func() bool {
			return one.reported("10.40.0.0/24").Name == "web" && one.announced(at(web)) == "web"
		})
		pod := one.attaches(cni("web", "a"))
		ip := pod.Addrs[0].Addr()
		if ip == at(web) {
			t.Fatalf("%s is held by two", ip)
		}
		_, err := one.AttachEndpoint(t.Context(), cni("web", "b", at(web)))
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}) || !strings.Contains(err.Error(), "container web") {
			t.Errorf("another runtime got the address of a container: %v", err)
		}
		if err := one.docker.Remove(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		if err := one.docker.RemoveNetwork(t.Context(), network); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		one.restart()
		one.ready()
		one.plugged(cni("", "a").Endpoint, true)
		if again := one.attaches(api.AttachRequest{Owner: netmap.OwnerCNI, Network: one.number("10.40.0.0/24"), Container: "pod-a", Endpoint: cni("", "a").Endpoint}); again.Addrs[0].Addr() != ip {
			t.Errorf("it has %s, had %s", again.Addrs[0], ip)
		}
		one.detaches(cni("web", "a"))
		one.until("the network is gone with its last container", time.Minute, func() bool { return one.reported("10.40.0.0/24").ID == 0 })
	})
}

// TestAContainerWithoutDockerOutlivesTheIdentityOfItsHost: a removed host becomes a new one and reclaims
// the addresses of all its containers, not only Docker's.
func TestAContainerWithoutDockerOutlivesTheIdentityOfItsHost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, unreplicated)
		one, two := hosts[0], hosts[1]
		one.network("web", "10.40.0.0/24")
		two.until("the network is known", 10*time.Second, func() bool { return two.reported("10.40.0.0/24").ID != 0 })
		pod := cni(one.number("10.40.0.0/24"), "a")
		ip := two.attaches(pod).Addrs[0].Addr()
		two.removedInPassing(one)
		two.reborn()
		one.until("it is reached again", time.Minute, func() bool { return one.announced(ip) == "pod-a" && one.placed(ip) == two.Report().Self })
		if again := two.attaches(pod); again.Addrs[0].Addr() != ip {
			t.Errorf("it has %s, had %s", again.Addrs[0], ip)
		}
		two.detaches(pod)
		one.until("it is gone", 5*time.Second, func() bool { return one.announced(ip) == "" })
	})
}
