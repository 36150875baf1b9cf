package plugin_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/datapath"
)

// TestDriftIsRepairedAndCounted: what somebody else changes in the kernel is put right within two
// rounds of the comparison, and only that counts as a repair.
func TestDriftIsRepairedAndCounted(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		a, b := hosts[0], hosts[1]
		a.run("shop", a.network("web", web), "")
		b.until("the replica", 10*time.Second, func() bool { return b.lookup("web") != "" })
		b.run("db", b.lookup("web"), "")
		tunnel := func() (op datapath.Op, ok bool) {
			for _, n := range a.kernel.Read().Networks {
				for _, f := range n.FDB {
					op = datapath.Op{Verb: datapath.Delete, Object: datapath.ATunnel, Device: n.Device, MAC: f.MAC, Addr: f.VTEP}
				}
				ok = len(n.FDB) == 2 // to the container and to its host
			}
			return op, ok
		}
		there := func() bool { _, ok := tunnel(); return ok }
		a.until("a tunnel to b", 10*time.Second, there)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := a.Report().Datapath.Repaired; n != 0 {
			t.Errorf("%d repairs although nobody changed anything", n)
		}
		op, _ := tunnel()
		if err := a.kernel.Apply(t.Context(), []datapath.Op{op}); err != nil || there() {
			t.Fatal("the tunnel cannot be deleted", err)
		}
		a.until("the tunnel again", time.Minute, there)
		if n := a.Report().Datapath.Repaired; n != 1 {
			t.Errorf("%d repairs, want one", n)
		}
	})
}

// TestAChangeIsAppliedAlone: a change that another host announces reaches the kernel without
// the whole state.
func TestAChangeIsAppliedAlone(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		a, b := hosts[0], hosts[1]
		a.run("shop", a.network("web", web), "")
		b.until("the replica", 10*time.Second, func() bool { return b.lookup("web") != "" })
		time.Sleep(time.Minute)
		synctest.Wait()
		sets := a.kernel.Sets()
		b.run("db", b.lookup("web"), "10.40.0.200")
		a.until("an answer for it", 10*time.Second, func() bool { return strings.Contains(a.kernel.Log(), "10.40.0.200") })
		if n := a.kernel.Sets(); n != sets {
			t.Errorf("the whole state was set %d times", n-sets)
		}
	})
}
