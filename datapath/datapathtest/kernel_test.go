package datapathtest_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/datapathtest"
)

func TestPortsOutliveStatesThatDoNotKnowThem(t *testing.T) {
	var k datapathtest.Kernel
	dev := datapath.Device{ID: 1, VNI: 16, Bridge: "wfb10", VXLAN: "wfx10", MTU: 1450, PortMTU: 1450, UDPPort: 4789, Source: netip.MustParseAddr("192.0.2.1")}
	p := datapath.Port{Endpoint: "e1", V4: netip.MustParseAddr("10.0.0.2")}
	name, err := k.Plug(t.Context(), datapath.Plugged{Device: dev, Port: p})
	if err != nil || name != datapath.InnerName("e1") {
		t.Fatal(name, err)
	}
	if _, err := k.Set(t.Context(), datapath.State{}); err != nil {
		t.Fatal(err)
	}
	n, ok := k.Read().Network(16)
	if !ok || len(n.Ports) != 1 || len(n.Neighbours) != 1 {
		t.Fatalf("after an older state: %+v", n)
	}
	if err := k.Unplug(t.Context(), "e1"); err != nil {
		t.Fatal(err)
	}
	if n, _ := k.Read().Network(16); len(n.Ports)+len(n.Neighbours)+len(n.Bridging) != 0 {
		t.Fatalf("after unplugging: %+v", n)
	}
	if _, err := k.Set(t.Context(), datapath.State{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(datapath.State{}.Networks, k.Read().Networks); diff != "" && len(k.Read().Networks) > 0 {
		t.Fatal(diff)
	}
	if k.Log() == "" {
		t.Fatal("nothing was written down")
	}
}
