package gossip

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/netmap"
)

// TestHostsAdmittedTogetherKnowAllSoon: hosts that come into a cluster at one moment learn everything from each
// other in rounds. Each of them has little to tell at first, and the next digest is seconds away.
func TestHostsAdmittedTogetherKnowAllSoon(t *testing.T) {
	hosts, endpoints, size := 100, 1, os.Getenv("WEFT_CROWD")
	if size != "" {
		if _, err := fmt.Sscanf(size, "%dx%d", &hosts, &endpoints); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := bootIn(t, netmap.ClusterID{}, hosts, endpoints)
		c.bounded = size == ""
		defer func() {
			for _, m := range c.members {
				c.stop(m)
			}
			time.Sleep(time.Minute) // memberlist's last timers
		}()
		time.Sleep(500 * time.Millisecond)
		for _, m := range c.members {
			m.SetCluster(netmap.ClusterID{0xc1})
		}
		took := c.until("all facts", time.Minute, c.knowsAllFacts)
		t.Logf("%d hosts that were admitted together know all facts after %s; %s", hosts, took.Round(time.Millisecond), c.spent())
		c.bound("ms until hosts that were admitted together know all facts", took.Milliseconds(), 1800)
	})
}
