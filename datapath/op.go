package datapath

import (
	"fmt"
	"iter"
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// Verb says what an operation does.
type Verb uint8

// Add creates a thing or changes it into the wanted form. Delete succeeds if there is nothing.
const (
	Add Verb = iota + 1
	Delete
)

// Object says what an operation is applied to.
type Object uint8

// The objects, in the order in which they are added; they are deleted in the opposite order.
// ARP is answered only once the answer can be reached.
const (
	ABridge Object = iota + 1
	AVXLAN
	APort
	ATunnel
	AFlood
	ABridging
	ANeighbour
	AStray
)

// Op is one step on the way to a state. It is comparable and safe to repeat. Fields that the
// object does not need are zero.
type Op struct {
	Verb   Verb
	Object Object
	Device Device     // of the network; the names are always set
	Port   Bridged    // APort; for ABridging the name of the port; for AStray the link
	MAC    netmap.MAC // ATunnel, ABridging, ANeighbour
	Addr   netip.Addr // VTEP of ATunnel and AFlood, address of ANeighbour
}

// Batches yields operations n at a time, in order. A batch is good until the next one.
func Batches(ops iter.Seq[Op], n int) iter.Seq[[]Op] {
	return func(yield func([]Op) bool) {
		var batch []Op
		for op := range ops {
			if batch = append(batch, op); len(batch) < n {
				continue
			}
			if !yield(batch) {
				return
			}
			batch = batch[:0]
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// String is the operation as the command of ip or bridge that does the same in
// the overlay namespace, for logs and tests.
func (o Op) String() string {
	add := o.Verb == Add
	switch o.Object {
	case ABridge:
		snoops := pick(o.Device.Multicast, "mcast_snooping 1 mcast_querier 1 mcast_query_response_interval 100", "mcast_snooping 0")
		return pick(add, fmt.Sprintf("ip link add %s mtu %d type bridge %s vlan_default_pvid 0 # %s",
			o.Device.Bridge, o.Device.MTU, snoops, BridgeAlias(o.Device)), "ip link del "+o.Device.Bridge)
	case AVXLAN:
		return pick(add, fmt.Sprintf("ip link add %s mtu %d master %s type vxlan id %d local %s dstport %d nolearning",
			o.Device.VXLAN, o.Device.MTU, o.Device.Bridge, o.Device.VNI, o.Device.Source, o.Device.UDPPort), "ip link del "+o.Device.VXLAN)
	case APort:
		return pick(add, fmt.Sprintf("ip link set %s mtu %d master %s up # %s", o.Port.Name, o.Device.MTU, o.Device.Bridge, PortAlias(o.Port.Endpoint)),
			"ip link del "+o.Port.Name)
	case AStray:
		return "ip link del " + o.Port.Name
	}
	return o.entry(pick(add, "replace", "del"))
}

func (o Op) entry(verb string) string {
	switch o.Object {
	case ATunnel:
		return fmt.Sprintf("bridge fdb %s %s dev %s dst %s self static", verb, o.MAC, o.Device.VXLAN, o.Addr)
	case AFlood:
		return fmt.Sprintf("bridge fdb %s 00:00:00:00:00:00 dev %s dst %s self static", pick(o.Verb == Add, "append", "del"), o.Device.VXLAN, o.Addr)
	case ABridging:
		return fmt.Sprintf("bridge fdb %s %s dev %s master static", verb, o.MAC, o.Port.Name)
	case ANeighbour:
		if o.Verb == Delete {
			return fmt.Sprintf("ip neigh del %s dev %s", o.Addr, o.Device.Bridge)
		}
		return fmt.Sprintf("ip neigh replace %s lladdr %s dev %s nud permanent", o.Addr, o.MAC, o.Device.Bridge)
	}
	return fmt.Sprintf("# unknown object %d", o.Object)
}

func pick(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}
