package linux

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/datapath"
)

// TestIntegrationALostInterfaceComesBack with its name, addresses and forwarding, whichever end somebody has deleted; where the
// container has another interface of that name nothing is left over.
func TestIntegrationALostInterfaceComesBack(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	h := r.hosts[0]
	p := datapath.Plugged{Device: h.device(1), Port: a.port}
	in := Inside{NS: a.ns.ns, Name: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(a.port.V4, 16), netip.PrefixFrom(a.port.V6, 64)}}
	for what, remove := range map[string]func() error{
		"the overlay's end":   func() error { return h.k.overlay.remove(datapath.OuterName(a.port.Endpoint)) },
		"the container's end": func() error { return a.ns.remove("eth0") },
	} {
		a.reaches(b.port.V4, b.port.V6)
		check(t, remove())
		if report := h.set(); len(report.Missing) != 1 {
			t.Errorf("%s: missing are %v", what, report.Missing)
		}
		check(t, h.k.Restore(t.Context(), p, in))
		a.reaches(b.port.V4, b.port.V6)
		b.reaches(a.port.V4, a.port.V6)
		h.isWanted()
		if report := h.set(); report.Done > 0 || len(report.Missing) > 0 {
			t.Errorf("%s: after that %+v", what, report)
		}
	}
	if err := h.k.Restore(t.Context(), p, in); err == nil {
		t.Error("a second interface of one name is no error")
	}
	a.reaches(b.port.V4, b.port.V6)
}
