package linux

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/netmap"
)

// TestIntegrationWhoHasAnAddress finds addresses that no endpoint has, on this host and on others.
func TestIntegrationWhoHasAnAddress(t *testing.T) {
	a, b, c := trio(t, true)
	b.has("10.32.0.77/20", true)
	b.has("fd00:32::77/64", true)
	for _, from := range []*box{a, b, c} {
		for addr, want := range map[string]netmap.MAC{
			"10.32.0.77": b.port.HardwareAddr(), "fd00:32::77": b.port.HardwareAddr(), "10.32.0.78": {}, "fd00:32::78": {},
		} {
			from.host.hears(addr, want)
		}
	}
	if mac, err := a.host.k.WhoHas(netmap.FirstVNI+2, netip.MustParseAddr("10.32.0.77")); err != nil || !mac.IsZero() {
		t.Errorf("a network that this host is not on: %s, %v", mac, err)
	}
	b.has("10.32.0.77/20", false)
	a.host.hears("10.32.0.77", netmap.MAC{})
}

// hears checks who has an address. An answer may be late on a busy machine, and no answer is none at once.
func (h *labHost) hears(addr string, want netmap.MAC) {
	h.Helper()
	for began := time.Now(); ; {
		got, err := h.k.WhoHas(netmap.FirstVNI+1, netip.MustParseAddr(addr))
		check(h, err)
		if got == want {
			return
		}
		if !got.IsZero() || time.Since(began) > 2*time.Second {
			h.Fatalf("host %s: %s is at %q, want %q", h.id.Short(), addr, got, want)
		}
	}
}

// TestIntegrationWhoHasAnAddressWithoutMulticast asks the containers of this host only: such addresses work on one host only.
func TestIntegrationWhoHasAnAddressWithoutMulticast(t *testing.T) {
	a, b, _ := trio(t, false)
	b.has("10.32.0.77/20", true)
	b.has("fd00:32::77/64", true)
	for _, addr := range []string{"10.32.0.77", "fd00:32::77"} {
		for h, want := range map[*labHost]netmap.MAC{a.host: {}, b.host: b.port.HardwareAddr()} {
			h.hears(addr, want)
		}
	}
}
