package datapath

import (
	"net/netip"
	"sync/atomic"

	"github.com/weftnet/weft/netmap"
)

const (
	// DefaultUDPPort is VXLAN's (RFC 7348 §8).
	DefaultUDPPort = 4789

	defaultUnderlayMTU = 1500
	minMTU             = 576  // of IPv4 hosts (RFC 1122 §3.3.2)
	minMTU6            = 1280 // below that Linux takes IPv6 off a device (RFC 8200 §5)
	// maxMTU is the limit of the kernel's VXLAN, bridge and veth devices. All of Weft's devices
	// in the overlay namespace have it: the containers' ends bound what they send. With a
	// smaller MTU, a bridge would silently drop what a container sends that was started when
	// the underlay carried more. VXLAN tells such a container (Linux 5.8), or has its packets
	// fragmented.
	maxMTU = 65535
)

// Overhead returns what VXLAN adds to a frame's payload over an underlay of the address's
// family, in bytes: IP, UDP, VXLAN and the inner Ethernet header.
func Overhead(source netip.Addr) int {
	if source.Unmap().Is6() {
		return 40 + 8 + 8 + 14
	}
	return 20 + 8 + 8 + 14
}

// clusterMTU returns the smallest MTU that any host of the cluster carries: a container may
// later start on any of them.
func clusterMTU(view *netmap.View, self netmap.HostID, l Local) int {
	return min(ownMTU(l), othersMTU(view.Hosts, self))
}

func ownMTU(l Local) int { return underlay(l.UnderlayMTU) - Overhead(l.Source) }

func othersMTU(hosts []netmap.HostView, self netmap.HostID) int {
	mtu := maxMTU
	for _, h := range hosts {
		if h.ID != self && h.IsMember() && h.Fact.MTU > 0 && h.Fact.Underlay.IsValid() {
			mtu = min(mtu, h.Fact.MTU-Overhead(h.Fact.Underlay.Addr()))
		}
	}
	return mtu
}

// MTUs returns what DeviceOf does, without a look at the hosts as long as none has changed. Safe
// for concurrent use.
type MTUs struct {
	self netmap.HostID
	last atomic.Pointer[leastMTU]
}

// leastMTU is the smallest MTU that other hosts carry. Views share the list of hosts while none changes.
type leastMTU struct {
	hosts []netmap.HostView
	mtu   int
}

// NewMTUs returns those of host self.
func NewMTUs(self netmap.HostID) *MTUs { return &MTUs{self: self} }

// DeviceOf returns what a network's devices are made from.
func (m *MTUs) DeviceOf(view *netmap.View, n netmap.Network, local Local) Device {
	last := m.last.Load()
	if last == nil || !sharedHosts(last.hosts, view.Hosts) {
		last = &leastMTU{view.Hosts, othersMTU(view.Hosts, m.self)}
		m.last.Store(last)
	}
	return deviceOf(min(ownMTU(local), last.mtu), n, local)
}

// sharedHosts reports whether two lists are the same memory.
func sharedHosts(a, b []netmap.HostView) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// portMTU returns the MTU of a network's containers: what the cluster carries, or what the user
// asked for if that is smaller.
func portMTU(mtu int, n netmap.Network, l Local) int {
	for _, bound := range []int{n.MTU, l.MTU} {
		if bound > 0 {
			mtu = min(mtu, bound)
		}
	}
	if hasV6(n) {
		return min(max(mtu, minMTU6), maxMTU)
	}
	return min(max(mtu, minMTU), maxMTU)
}

func underlay(mtu int) int {
	if mtu <= 0 {
		return defaultUnderlayMTU
	}
	return mtu
}

func hasV6(n netmap.Network) bool {
	for _, p := range n.Subnets {
		if p.Addr().Is6() {
			return true
		}
	}
	return false
}
