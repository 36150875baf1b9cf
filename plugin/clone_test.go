package plugin_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestOfAHostAndItsCopyOneHandsOut: a machine and a copy of its disk run side by
// side; the one that showed the ledger the older start stops, and says so, long
// before its next renewal.
func TestOfAHostAndItsCopyOneHandsOut(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		original := hosts[2]
		network := original.network("web", "10.40.0.0/24")
		original.run("before", network, "")
		twin := c.host(hosts[0])
		synctest.Wait() // nobody writes
		if err := os.CopyFS(twin.set.State, os.DirFS(original.set.State)); err != nil {
			t.Fatal(err)
		}
		twin.start().ready()
		original.problem(5*time.Minute, "two agents use the identity", "192.0.2.3", "192.0.2.4")
		original.problem(10*time.Second, "shows start 1", "start 2 was seen", "weft host new-identity")
		begin := time.Now()
		_, err := original.docker.Run(t.Context(), "after", network, addr(""))
		fails(t, begin, err, "shows start 1", "start 2 was seen", "weft host new-identity")
		if twin.Report().State != "ready" {
			t.Error("neither of the two may go on")
		}
	})
}

// TestACopyOfAKeeperLeavesTheLogAlone: its log lacks what the keeper acknowledged since
// the copy was made, and would let a decision be forgotten if it voted.
func TestACopyOfAKeeperLeavesTheLogAlone(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		leader := hosts[0]
		leader.until("three keepers", time.Minute, func() bool { return len(leader.Report().Ledger.Keepers) == 3 })
		twin := c.host(hosts[1])
		leader.copyDisk(twin.set.State)
		network := hosts[1].network("web", "10.40.0.0/24") // the copy does not know
		hosts[1].run("before", network, "")
		twin.start().ready()
		if text := twin.log.String(); !holds(text, "another machine runs as this host") {
			t.Errorf("the copy did not notice: %s", text)
		}
		leader.problem(time.Minute, "shows start 1", "start 2 was seen", "weft host new-identity")
		begin := time.Now()
		_, err := leader.docker.Run(t.Context(), "no", leader.lookup("web"), addr(""))
		fails(t, begin, err, "shows start 1")
		hosts[2].until("the keepers are of one mind again", time.Minute, func() bool {
			_, err := hosts[2].docker.Run(t.Context(), "after", hosts[2].lookup("web"), addr(""))
			return err == nil
		})
		if n := hosts[2].reported("10.40.0.0/24"); n.Name != "web" {
			t.Errorf("the network is %+v", n)
		}
	})
}
