package linux

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

var device = datapath.Device{
	ID: 1, VNI: 0x100001, Bridge: "wfb100001", VXLAN: "wfx100001", MTU: 1450, PortMTU: 1450,
	UDPPort: 4789, Source: netip.MustParseAddr("192.0.2.1"),
}

func TestOutdatedOperations(t *testing.T) {
	p := newPorts()
	mine, gone := endpoint(1, 1), endpoint(1, 2)
	p.plug(datapath.Plugged{Device: device, Port: mine})
	p.plug(datapath.Plugged{Device: device, Port: gone})
	p.unplug(gone.Endpoint)
	outer := datapath.Bridged{Name: datapath.OuterName(mine.Endpoint), Endpoint: mine.Endpoint}
	other := datapath.Device{VNI: 0x100002, Bridge: "wfb100002", VXLAN: "wfx100002"}
	vxlan := datapath.Bridged{Name: device.VXLAN}
	const add, del = datapath.Add, datapath.Delete
	cases := []struct {
		name string
		op   datapath.Op
		want bool
	}{
		{"delete its bridge", datapath.Op{Verb: del, Object: datapath.ABridge, Device: device}, true},
		{"delete its VXLAN device", datapath.Op{Verb: del, Object: datapath.AVXLAN, Device: device}, true},
		{"repair its bridge", datapath.Op{Verb: add, Object: datapath.ABridge, Device: device}, false},
		{"delete another bridge", datapath.Op{Verb: del, Object: datapath.ABridge, Device: other}, false},
		{"delete the port", datapath.Op{Verb: del, Object: datapath.APort, Device: device, Port: outer}, true},
		{"delete it as a stray", datapath.Op{Verb: del, Object: datapath.AStray, Port: outer}, true},
		{"delete its bridge as a stray", datapath.Op{Verb: del, Object: datapath.AStray, Port: datapath.Bridged{Name: device.Bridge}}, true},
		{"attach the port again", datapath.Op{Verb: add, Object: datapath.APort, Device: device, Port: outer}, false},
		{"attach what was unplugged", datapath.Op{Verb: add, Object: datapath.APort, Device: device, Port: datapath.Bridged{Name: datapath.OuterName(gone.Endpoint), Endpoint: gone.Endpoint}}, true},
		{"send its frames elsewhere", datapath.Op{Verb: add, Object: datapath.ABridging, Device: device, Port: vxlan, MAC: mine.HardwareAddr()}, true},
		{"send its frames to it", datapath.Op{Verb: add, Object: datapath.ABridging, Device: device, Port: outer, MAC: mine.HardwareAddr()}, false},
		{"send them nowhere", datapath.Op{Verb: del, Object: datapath.ABridging, Device: device, Port: outer, MAC: mine.HardwareAddr()}, true},
		{"the same MAC in another network", datapath.Op{Verb: del, Object: datapath.ABridging, Device: other, MAC: mine.HardwareAddr()}, false},
		{"forget its address", datapath.Op{Verb: del, Object: datapath.ANeighbour, Device: device, Addr: mine.V6}, true},
		{"give its address to another MAC", datapath.Op{Verb: add, Object: datapath.ANeighbour, Device: device, Addr: mine.V4, MAC: netmap.MAC{2}}, true},
		{"say its address", datapath.Op{Verb: add, Object: datapath.ANeighbour, Device: device, Addr: mine.V4, MAC: mine.HardwareAddr()}, false},
		{"another address", datapath.Op{Verb: del, Object: datapath.ANeighbour, Device: device, Addr: gone.V4}, false},
		{"a tunnel, which nothing uses", datapath.Op{Verb: del, Object: datapath.ATunnel, Device: device, MAC: mine.HardwareAddr()}, false},
	}
	for _, c := range cases {
		if got := p.outdated(c.op); got != c.want {
			t.Errorf("%s: outdated %v", c.name, got)
		}
	}
	if empty := newPorts(); empty.outdated(cases[0].op) {
		t.Error("nothing is plugged, yet something is outdated")
	}
}

func TestUnpluggedIsForgottenOnceStatesCaughtUp(t *testing.T) {
	p := newPorts()
	id := endpoint(1, 1).Endpoint
	b := datapath.Bridged{Name: datapath.OuterName(id), Endpoint: id}
	old := datapath.State{Networks: []datapath.Network{{Device: device, Ports: []datapath.Bridged{b}}}}
	p.unplug(id)
	p.forget(old)
	if got := p.goal(old); slices.Contains(got.Networks[0].Ports, b) {
		t.Error("an older state brings the port back")
	}
	p.forget(datapath.State{Keep: true})
	if len(p.unplugged) != 1 {
		t.Error("forgotten by a state that knows little")
	}
	p.forget(datapath.State{})
	if len(p.unplugged) != 0 {
		t.Error("never forgotten")
	}
}
