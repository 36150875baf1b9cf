package plugin_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftnet/weft/netmap"
)

// TestAContainerThatTheDiskDoesNotKnowIsNamed: the state directory was replaced by a copy from before a
// container was started. Nothing proves that the copy is older: the host has given up nothing since,
// and the notes that last until the next boot are lost. The container is off the network on all hosts,
// and a problem names it.
func TestAContainerThatTheDiskDoesNotKnowIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		h, other := hosts[0], hosts[1]
		network := h.network("web", web)
		known := at(h.run("known", network, ""))
		old := filepath.Join(c.dir, "old")
		h.copyDisk(old)
		stranger := at(h.run("stranger", network, ""))
		other.until("both are told of", 5*time.Second, func() bool { return other.placed(stranger) == h.Report().Self })
		h.stop()
		h.restoreDisk(old)
		if err := os.RemoveAll(filepath.Join(c.dir, h.set.Name+".run")); err != nil {
			t.Fatal(err)
		}
		h.start().ready()
		h.problem(5*time.Minute, "off the network", "stranger", "older copy", "docker restart")
		if to := h.forwards(stranger); to != "nowhere" {
			t.Errorf("%s is forwarded to %s", stranger, to)
		}
		if other.placed(stranger) != (netmap.HostID{}) || other.placed(known) != h.Report().Self {
			t.Errorf("told of: %s on %s, %s on %s", stranger, other.placed(stranger), known, other.placed(known))
		}
	})
}
