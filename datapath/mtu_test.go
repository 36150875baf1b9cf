package datapath_test

import (
	"testing"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// TestDevicesAreMadeWithoutALookAtAllHosts: MTUs says what DeviceOf says, and looks at the hosts again only when one
// of them has changed.
func TestDevicesAreMadeWithoutALookAtAllHosts(t *testing.T) {
	mtus, first, l := datapath.NewMTUs(hostA), view(), local()
	smaller := view(func(v *netmap.View) { v.Hosts[2].Fact.MTU = 1400 })
	for name, v := range map[string]*netmap.View{"one view": first, "another view": smaller, "no hosts": {}} {
		if got, want := mtus.DeviceOf(v, network, l), datapath.DeviceOf(v, hostA, network, l); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	l.UnderlayMTU = 1300
	if got, want := mtus.DeviceOf(first, network, l), datapath.DeviceOf(first, hostA, network, l); got != want {
		t.Errorf("this host's own changed: %+v, want %+v", got, want)
	}
	before := mtus.DeviceOf(first, network, local())
	same := first.WithEndpoints(endpoint(idA, hostB, "10.32.1.2")) // an endpoint came: the list of hosts is the same
	first.Hosts[1].Fact.MTU = 1000                                 // which is never done, and shows who reads it
	if got := mtus.DeviceOf(same, network, local()); got != before {
		t.Errorf("it looked at all hosts: %+v", got)
	}
}
