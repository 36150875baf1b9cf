package plugin_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/store"
)

// fullStore is a store that a start of the agent fitted into and nothing more.
type fullStore struct{ *store.Store }

type fullBucket struct{ ipam.Disk }

func (s fullStore) Bucket(name string) ipam.Disk { return fullBucket{s.Store.Bucket(name)} }

func (fullBucket) Commit(map[string][]byte, ...string) error {
	return fmt.Errorf("the disk is full: %w", unix.ENOSPC)
}

// TestAnAgentStartsOnAFullDisk, although its underlay is another one than before: what
// runs needs the agent.
func TestAnAgentStartsOnAFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		net := h.network("net", "10.40.0.0/24")
		box := h.run("box", net, "")
		h.stop()
		h.kernel = plugintest.NewKernel(h.addr, 1400)
		cfg := h.config()
		cfg.Rooms.Store = func(dir string) (plugin.Store, error) {
			s, err := store.Open(dir)
			return fullStore{s}, err
		}
		a, err := plugin.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.Agent = a
		h.until("it knows its container", time.Minute, func() bool {
			for _, n := range h.Report().Networks {
				for _, e := range n.Endpoints {
					if e.V4 == box.Addrs[0].Addr() {
						return true
					}
				}
			}
			return false
		})
		if !holds(h.log.String(), "cannot be written down", "the disk is full") {
			t.Error("its log says nothing of the disk")
		}
		h.Agent = nil
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}
