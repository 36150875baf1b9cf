package plugin_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/ipam/receipt"
)

// TestASubnetThatOnlyTheDiskHasIsTakenIntoUseAgain: the ledger heard that this host
// released it, and an older copy of the disk does not know that.
func TestASubnetThatOnlyTheDiskHasIsTakenIntoUseAgain(t *testing.T) {
	for name, ip := range map[string]string{"any": "", "--ip": "10.40.0.77"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				h := up(c, 1)[0]
				id := h.network("web", "10.40.0.0/24")
				subnet := netip.MustParsePrefix("10.40.0.0/24")
				released, err := receipt.Commit(ipamtest.NewDisk(), subnet, map[string][]byte{"x": {1}})
				if err == nil {
					err = h.ReleaseSubnet(t.Context(), released)
				}
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				_, err = h.docker.Run(t.Context(), "first", id, addr(ip))
				fails(t, begin, err, "10.40.0.0/24")
				_ = h.docker.Remove(t.Context(), "first")
				h.run("second", id, ip)
			})
		})
	}
}
