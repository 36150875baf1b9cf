package plugin_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/store/synced"
)

// TestASubnetThatOnlyTheDiskHasIsTakenIntoUseAgain: the ledger heard that this host
// released it, and an older copy of the disk does not know that.
func TestASubnetThatOnlyTheDiskHasIsTakenIntoUseAgain(t *testing.T) {
	for name, ip := range map[string]string{"any": "", "--ip": "10.40.0.77"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				h := up(c, 1)[0]
				id := h.network("web", "10.40.0.0/24")
				none, err := synced.Commit(ipamtest.NewDisk(), []netip.Prefix{}, nil)
				if err == nil {
					err = h.Decider().UseSubnets(t.Context(), none)
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

// TestASubnetThatOnlyTheLedgerHasGoes: whoever asked for it never heard the answer, or
// the disk is an older copy. Facts do not tell who uses a subnet, so the host does.
func TestASubnetThatOnlyTheLedgerHasGoes(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		h.network("web", "10.40.0.0/24")
		empty, err := h.Decider().EnsureSubnet(t.Context(), ipam.SubnetRequest{})
		if err != nil {
			t.Fatal(err)
		}
		full, err := h.Decider().EnsureSubnet(t.Context(), ipam.SubnetRequest{V6: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Decider().GrantBlock(t.Context(), ipam.BlockRequest{Subnet: full.Prefix, Within: full.Prefix}); err != nil {
			t.Fatal(err)
		}
		has := func(p netip.Prefix) bool { _, ok := h.View().Subnet(p); return ok }
		if !has(empty.Prefix) || !has(full.Prefix) {
			t.Fatalf("subnets %v", h.View().Subnets)
		}
		h.until("gone", 2*time.Minute, func() bool { return !has(empty.Prefix) && !has(full.Prefix) })
		if len(h.View().Blocks) > 0 || !has(netip.MustParsePrefix("10.40.0.0/24")) {
			t.Errorf("blocks %v, subnets %v", h.View().Blocks, h.View().Subnets)
		}
	})
}
