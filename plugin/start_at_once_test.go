package plugin_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
)

// TestFiftyContainersStartAtOnceOnEachHost of three, on one network.
func TestFiftyContainersStartAtOnceOnEachHost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		var all sync.WaitGroup
		for _, h := range hosts {
			id := h.network("web", "10.40.0.0/22")
			for n := range 50 {
				all.Go(func() {
					if _, err := h.docker.Run(t.Context(), fmt.Sprintf("c%d", n), id, netip.Addr{}); err != nil {
						t.Errorf("%s: container %d: %v", h.set.Name, n, err)
					}
				})
			}
		}
		all.Wait()
		nobodyTwice(t, hosts)
	})
}
