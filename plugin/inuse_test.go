package plugin_test

import (
	"testing"
	"time"

	"github.com/weftnet/weft/netmap"
)

// TestAnAddressSeenInUse on any host of the network is not handed out, not even to the first container of a host, and a
// request for it is refused with who uses it.
func TestAnAddressSeenInUse(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, unreplicated)
		a, b := hosts[0], hosts[1]
		on := []string{a.network("web", "10.40.0.0/28"), b.network("web", "10.40.0.0/28")}
		lb := at(a.run("lb", on[0], ""))
		b.until("the container is known", time.Minute, func() bool { return len(b.reported("10.40.0.0/28").Endpoints) == 1 })
		virtual, own := lb.Next(), netmap.MACOf(lb)
		a.kernel.Use(virtual, own)
		a.kernel.Use(virtual.Next(), netmap.MACOf(virtual.Next())) // an endpoint that is gone, of which not all have heard

		begin := time.Now()
		_, err := b.docker.Run(t.Context(), "thief", on[1], virtual)
		fails(t, begin, err, virtual.String(), "container lb on host host-1", "choose another --ip")
		if err := b.docker.Remove(t.Context(), "thief"); err != nil {
			t.Error(err)
		}
		if got := at(a.run("next", on[0], "")); got != virtual.Next() {
			t.Errorf("handed out %s after %s, want %s", got, lb, virtual.Next())
		}
		a.kernel.Use(virtual, netmap.MAC{0, 0, 0x5e, 0, 1, 7})
		begin = time.Now()
		_, err = a.docker.Run(t.Context(), "thief", on[0], virtual)
		fails(t, begin, err, virtual.String(), "00:00:5e:00:01:07", "choose another --ip")
	})
}
