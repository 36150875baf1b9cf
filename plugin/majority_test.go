package plugin_test

import (
	"testing"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// TestALostMajorityIsSaidEverywhere: without a majority, the status of all hosts and every refusal that
// results have the names of the missing keepers. Running containers are not affected, and the problem
// ends when the keepers are back.
func TestALostMajorityIsSaidEverywhere(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 4, unreplicated)
		keep, rest := c.keepers(3)
		left := []*host{keep[0], rest[0]}
		ids := map[*host]string{}
		for _, h := range left {
			ids[h] = h.network("web", "10.40.0.0/24")
			h.run("before", ids[h], "")
		}
		missing := []string{keep[1].set.Name, keep[2].set.Name}
		off(keep[0], keep[1], keep[2])
		for _, h := range left {
			h.problem(time.Minute, append(missing, "3 keepers", "not seen", "weft ledger recover")...)
			h.run("from its own block", ids[h], "")
			for what, ask := range map[string]func() error{
				"a network": func() error {
					_, err := h.docker.CreateNetwork(t.Context(), named("new", "10.50.0.0/24"))
					return err
				},
				"a network of any subnet": func() error {
					_, err := h.docker.CreateNetwork(t.Context(), dockerapi.ReplicaSpec{Name: "any", Driver: named("", "10.0.0.0/24").Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{}}}})
					return err
				},
				"an address of another's block": func() error {
					_, err := h.docker.Run(t.Context(), "static", ids[h], addr("10.40.0.250"))
					return err
				},
			} {
				begin := time.Now()
				err := ask()
				fails(t, begin, err, missing...)
				if t.Failed() {
					t.Fatalf("%s on %s: %v", what, h.set.Name, err)
				}
			}
		}
		keep[1].start()
		for _, h := range left {
			h.until("the problem is over", time.Minute, func() bool { return len(h.Report().Problems) == 0 })
		}
	})
}

// TestARemovedNetworkLeavesTheKernelWithoutAMajority: the kernel's devices of a removed network go at
// once, although the ledger cannot be told yet.
func TestARemovedNetworkLeavesTheKernelWithoutAMajority(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 3, unreplicated)
		keep, _ := c.keepers(3)
		h := keep[0]
		id := h.network("web", "10.40.0.0/24")
		h.run("web", id, "")
		if got := len(h.kernel.Read().Networks); got != 1 {
			t.Fatalf("the kernel has %d networks", got)
		}
		off(h, keep[1:]...)
		if err := h.docker.Remove(t.Context(), "web"); err != nil {
			t.Error(err)
		}
		go func() { _ = h.docker.RemoveNetwork(t.Context(), id) }() // it is told that the cluster is to hear of it
		h.until("the kernel has no network", time.Second, func() bool { return len(h.kernel.Read().Networks) == 0 })
		time.Sleep(5 * time.Second) // Docker's call ends
	})
}
