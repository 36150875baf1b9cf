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
