package linux

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/datapath"
)

// TestIntegrationMembersAreAskedAgain: a container whose reports were lost is a member of its groups soon after its port is
// asked, and so is found by its IPv6 address: ND asks the group of that.
func TestIntegrationMembersAreAskedAgain(t *testing.T) {
	r := newRig(t, 1, 1500)
	vni := r.network(1, true).VNI
	h := r.hosts[0]
	boxes := []*box{h.start(1, 1), h.start(1, 2), h.start(1, 3), h.start(1, 4)}
	r.sync()
	bridge, ok := h.k.overlay.up(t, datapath.BridgeName(vni)).(*netlink.Bridge)
	if !ok {
		t.Fatal("no bridge")
	}
	// What the bridge knew is forgotten, and its ports are asked, as a new one is.
	check(t, h.k.overlay.snoop(bridge, false))
	check(t, h.k.overlay.snoop(bridge, true))
	began := time.Now()
	boxes[0].within(5*time.Second, "all are members", func() bool {
		found := 0
		check(t, h.k.overlay.ns.Do(func() error {
			out, err := exec.Command("bridge", "mdb", "show", "dev", bridge.Name).CombinedOutput()
			for i := range boxes {
				if strings.Contains(string(out), "grp ff02::1:ff00:"+string(rune('1'+i))) {
					found++
				}
			}
			return err
		}))
		return found == len(boxes)
	})
	t.Logf("all are members after %s", time.Since(began))
}
