package gossip_test

import (
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

// countingDisk counts how often the ledger's log is written.
type countingDisk struct {
	memory
	writes int
}

func (d *countingDisk) Commit(set map[string][]byte, del ...string) error {
	if _, is := set["log/"+ours.String()]; is {
		d.writes++
	}
	return d.memory.Commit(set, del...)
}

// TestRenewalsAreNotSavedEachTime: the ledger's index moves with each renewal of a lease, of a
// thousand hosts every few seconds, and nothing else does.
func TestRenewalsAreNotSavedEachTime(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		h := w.host(1, ours)
		disk := &countingDisk{}
		h.cfg.Disk = disk
		h.start()
		index := uint64(1)
		publish := func(changes ...netmap.Change) {
			if err := h.PublishDecisions(gossip.Decisions{Cluster: ours, Generation: 1, Index: index, Lead: true, Changes: changes}); err != nil {
				t.Fatal(err)
			}
			index++
		}
		admitted := netmap.HostEntry{ID: id(2), Index: 2, Name: "host-2"}
		publish(netmap.Change{Key: netmap.HostEntryKey(id(2)), Value: admitted})
		w.pass(10 * time.Second)
		before := disk.writes
		for range 15 * 20 { // a quarter of an hour
			publish()
			w.pass(3 * time.Second)
		}
		if got := disk.writes - before; got > 2 {
			t.Errorf("%d renewals are %d writes of the ledger's log, want one in ten minutes", 15*20, got)
		}
		admitted.Name = "renamed"
		publish(netmap.Change{Key: netmap.HostEntryKey(id(2)), Value: admitted})
		before = disk.writes
		w.pass(10 * time.Second)
		if got := disk.writes - before; got != 1 {
			t.Errorf("a change is %d writes, want one", got)
		}
	})
}
