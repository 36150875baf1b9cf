package plugin_test

import (
	"testing"
	"time"

	"github.com/weftnet/weft/plugin/plugintest"
)

// twinOf starts a machine with a copy of a host's disk and of its containers.
func (c *cluster) twinOf(original, join *host) *host {
	c.t.Helper()
	twin := c.host(join)
	original.copyDisk(twin.set.State)
	twin.docker.Adopt(original.docker)
	return twin.start()
}

// TestOfAHostAndItsCopyOneHandsOut: a machine and another one with a copy of its disk run at the same
// time. The one that is not where the ledger knows the host hands out nothing, and says so.
func TestOfAHostAndItsCopyOneHandsOut(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		original := hosts[2]
		network := original.network("web", "10.40.0.0/24")
		original.run("before", network, "")
		twin := c.twinOf(original, hosts[0])
		twin.problem(time.Minute, "shows start 2 from 192.0.2.4", "runs at 192.0.2.3:7950 as well", "weft host new-identity")
		original.problem(5*time.Minute, "two agents use the identity", "192.0.2.3", "192.0.2.4")
		begin := time.Now()
		_, err := twin.docker.Run(t.Context(), "no", network, addr(""))
		fails(t, begin, err, "shows start 2", "weft host new-identity")
		original.run("after", network, "")
	})
}

// TestACopyThatCameFirst: nobody answers where the ledger knows the host, so its copy is admitted. The
// machine with the older start hands out nothing more once it is back.
func TestACopyThatCameFirst(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		original := hosts[2]
		network := original.network("web", "10.40.0.0/24")
		original.run("before", network, "")
		original.cut()
		twin := c.twinOf(original, hosts[0])
		twin.ready()
		original.heal()
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

// TestACopyOfAKeeperLeavesTheLogAlone: the log of the copy lacks what the keeper has acknowledged since
// the copy was made. If the copy voted, a decision could be lost.
func TestACopyOfAKeeperLeavesTheLogAlone(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		leader := hosts[0]
		leader.until("three keepers", time.Minute, func() bool { return len(leader.Report().Ledger.Keepers) == 3 })
		twin := c.host(hosts[1])
		leader.copyDisk(twin.set.State)
		network := hosts[1].network("web", "10.40.0.0/24") // the copy does not know
		hosts[1].run("before", network, "")
		twin.start()
		twin.problem(time.Minute, "shows start 2", "runs at 192.0.2.1:7950 as well", "weft host new-identity")
		if text := twin.log.String(); !holds(text, "another machine runs as this host") {
			t.Errorf("the copy did not notice: %s", text)
		}
		leader.run("goes on", leader.lookup("web"), "")
		hosts[2].until("the keepers are of one mind", time.Minute, func() bool {
			_, err := hosts[2].docker.Run(t.Context(), "after", hosts[2].lookup("web"), addr(""))
			return err == nil
		})
		if n := hosts[2].reported("10.40.0.0/24"); n.Name != "web" {
			t.Errorf("the network is %+v", n)
		}
	})
}

// TestAFencedCopyDoesNotSilenceTheHost: a copy that the ledger never admits has a greater start number
// than the host, so the other hosts take the copy's facts for the host's. The host starts again with a
// number above it; until then they ignore its new containers.
func TestAFencedCopyDoesNotSilenceTheHost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		h := hosts[2]
		network := h.network("web", "10.40.0.0/24")
		before := h.run("before", network, "")
		twin := c.host(hosts[0])
		h.copyDisk(twin.set.State)
		h.restart()
		h.ready()
		for range 3 { // the ledger has seen another second start
			twin.start()
			twin.problem(time.Minute, "weft host new-identity")
			time.Sleep(10 * time.Second)
			twin.stop()
		}
		after := h.run("after", network, "")
		id := h.Report().Self
		h.until("it begins a later start", 10*time.Minute, func() bool {
			select {
			case <-h.Ended():
				return true
			default:
				return false
			}
		})
		h.restart()
		for _, one := range []plugintest.Container{before, after} {
			hosts[1].until("the others know of "+one.Name, 10*time.Second, func() bool { return hosts[1].placed(at(one)) == id })
		}
		h.run("as ever", network, "")
		if h.Report().Self != id {
			t.Error("it became another host")
		}
		select {
		case <-h.Ended():
			t.Error("it begins yet another one")
		case <-time.After(time.Hour):
		}
	})
}
