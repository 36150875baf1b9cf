package plugin_test

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

func (h *host) sees(other *host, state string) bool {
	id := other.Report().Self
	return slices.ContainsFunc(h.Report().Hosts, func(s api.Host) bool { return s.ID == id && s.State == state })
}

// TestARemovedHostHandsOutNothing: two operators remove a host at the same moment while it is off. It
// comes back with its disk and hands out no address before it is a member again, also after a restart
// with no other host in reach.
func TestARemovedHostHandsOutNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		gone := hosts[2]
		network := gone.network("web", "10.40.0.0/24")
		gone.run("before", network, "")
		hosts[0].until("the replica", 10*time.Second, func() bool { return hosts[0].lookup("web") != "" })
		for _, h := range hosts {
			h.until("all hosts alive", 10*time.Second, func() bool { return alive(h) == 3 })
		}
		gone.cut()

		if _, err := hosts[0].RemoveHost(t.Context(), api.Removal{Host: "host-3"}); err == nil || !holds(err.Error(), "host-3", "for another 24h", "--is-off") {
			t.Errorf("without the operator's word: %v", err)
		}
		var both sync.WaitGroup
		for _, h := range hosts[:2] {
			both.Go(func() {
				text, err := h.RemoveHost(t.Context(), api.Removal{Host: "host-3", IsOff: true})
				if err != nil || !holds(text, "host-3", "removed") {
					t.Errorf("%s: %q, %v", h.set.Name, text, err)
				}
			})
		}
		both.Wait()
		for _, h := range hosts[:2] {
			h.until("it is shown as removed", 5*time.Second, func() bool { return h.sees(gone, "removed") })
		}
		hosts[0].run("after", hosts[0].lookup("web"), "")

		gone.stop()
		gone.heal()
		gone.start()
		gone.problem(15*time.Second, "removed from the cluster")
		refused := func(name, why string) {
			t.Helper()
			begin := time.Now()
			_, err := gone.docker.Run(t.Context(), name, network, addr(""))
			fails(t, begin, err, why)
		}
		refused("back", "removed from the cluster")
		gone.cut()
		gone.restart()
		refused("back, and alone", "no other host is reachable")
		gone.heal()
		gone.ready()
		gone.run("a member again", network, "")
	})
}

// TestARemovalReachesAHostThatRuns: an operator removes a host that is cut off and still runs. It learns of that and
// hands out nothing more.
func TestARemovalReachesAHostThatRuns(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		network := hosts[1].network("web", "10.40.0.0/24")
		hosts[1].run("before", network, "")
		hosts[1].removedInPassing(hosts[0])
		hosts[1].problem(2*time.Minute, "removed from the cluster")
		begin := time.Now()
		_, err := hosts[1].docker.Run(t.Context(), "after", network, addr(""))
		fails(t, begin, err, "removed from the cluster")
		hosts[1].reborn()
		hosts[1].run("after", network, "")
	})
}

func TestRemovalsThatAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		hosts[0].until("all hosts known", 10*time.Second, func() bool { return alive(hosts[0]) == 3 })
		for word, want := range map[string]string{
			"": "which host", "nobody": "weft status", "host-1": "cannot remove itself", "host-2": "another 24h",
			strings.Repeat("f", 32): "there is no host", hosts[1].Report().Self.String()[:3]: "there is no host",
		} {
			begin := time.Now()
			_, err := hosts[0].RemoveHost(t.Context(), api.Removal{Host: word})
			fails(t, begin, err, want)
		}
		hosts[0].until("three keepers", time.Minute, func() bool { return len(hosts[0].Report().Ledger.Keepers) == 3 })
		for _, h := range hosts[1:] {
			h.cut()
		}
		begin := time.Now()
		_, err := hosts[0].RemoveHost(t.Context(), api.Removal{Host: "host-2", IsOff: true})
		fails(t, begin, err, "keepers")
	})
}

// TestRangesCanBeAdded: networks come from a new range when the old one is full,
// and a range that collides is refused by name.
func TestRangesCanBeAdded(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		for word, want := range map[string]string{"10.40.0.0/16": "10.32.0.0/12", "0.0.0.0/0": "", "10.33.0.0/32": ""} {
			begin := time.Now()
			_, err := h.AddRange(t.Context(), api.Range{Prefix: netip.MustParsePrefix(word)})
			fails(t, begin, err, want)
		}
		if _, err := h.AddRange(t.Context(), api.Range{}); err == nil || !holds(err.Error(), "which range") {
			t.Errorf("nothing to add: %v", err)
		}
		for range 2 { // repeating it changes nothing
			if text, err := h.AddRange(t.Context(), api.Range{Prefix: netip.MustParsePrefix("192.168.64.0/20")}); err != nil || !holds(text, "192.168.64.0/20") {
				t.Fatalf("%q, %v", text, err)
			}
		}
		h.until("the range as a fact", 5*time.Second, func() bool {
			return slices.ContainsFunc(h.View().Ranges, func(r netmap.Range) bool { return r.Prefix.String() == "192.168.64.0/20" })
		})
	})
}
