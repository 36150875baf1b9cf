package gossip

import (
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"testing"

	"github.com/weftnet/weft/netmap"
)

// keptDisk counts what is deleted and written.
type keptDisk struct {
	deleted int
	keys    []string // that were written
	largest int      // bytes of one commit
	failure error    // of all commits
}

func (*keptDisk) Load() (map[string][]byte, error) { return nil, nil }

func (d *keptDisk) Commit(set map[string][]byte, del ...string) error {
	d.deleted += len(del)
	size := 0
	for key, value := range set {
		size += len(value)
		d.keys = append(d.keys, key)
	}
	d.largest = max(d.largest, size)
	return d.failure
}

// TestALargeClusterIsLoadedFromDisk: logs of hosts that the ledger does not know share a limit,
// and those of a large cluster are beyond it together. The ledger's log on the same disk says
// that all were admitted.
func TestALargeClusterIsLoadedFromDisk(t *testing.T) {
	const hosts = 100 // half a megabyte each
	cluster, saved := netmap.ClusterID{0xff}, map[string][]byte{}
	facts := netmap.NewMap(cluster)
	var admitted []netmap.Change
	for n := range hosts {
		id := netmap.HostID{1, byte(n)}
		admitted = append(admitted, netmap.Change{Key: netmap.HostEntryKey(id), Value: netmap.HostEntry{ID: id, Index: uint32(n + 1)}})
	}
	records, err := netmap.RecordsOf(1, admitted)
	if err != nil {
		t.Fatal(err)
	}
	batches := []netmap.Batch{{Origin: cluster, Life: 1, Seq: 1, Records: records}}
	for n := range hosts {
		b := netmap.Batch{Origin: netmap.HostID{1, byte(n)}, Life: 1, Seq: 64}
		for seq := uint64(1); seq <= b.Seq; seq++ {
			b.Records = append(b.Records, netmap.Record{Seq: seq, Key: netmap.Key{Kind: 99, ID: string(rune(seq))}, Value: string(make([]byte, 4000))})
		}
		batches = append(batches, b)
	}
	for _, b := range batches {
		if _, err := facts.Apply(b); err != nil {
			t.Fatal(err)
		}
		saved[diskLog+b.Origin.String()] = facts.MarshalCache(b.Origin)
	}
	disk := &keptDisk{}
	g := &Gossip{cfg: Config{Host: netmap.HostID{2}, Cluster: cluster, Disk: disk, Log: slog.New(slog.DiscardHandler)}, facts: netmap.NewMap(cluster), dirty: map[netmap.ID]bool{}}
	g.loadLogs(saved)
	if got := len(g.facts.Origins()); got != hosts+1 || disk.deleted > 0 {
		t.Errorf("%d of %d logs are loaded, %d deleted", got, hosts+1, disk.deleted)
	}

	// What changed is written in pieces, each once; after a failure all is tried again.
	g.dirtyAll()
	check := func(failure error, atLeast int) {
		t.Helper()
		*disk = keptDisk{failure: failure}
		err := g.save()
		slices.Sort(disk.keys)
		if got := len(slices.Compact(slices.Clone(disk.keys))); !errors.Is(err, failure) || got != len(disk.keys) || got < atLeast || disk.largest > 2*savedBytes {
			t.Errorf("%d logs are saved, %d of them once, up to %d bytes at a time: %v", len(disk.keys), got, disk.largest, err)
		}
	}
	check(fs.ErrClosed, 1)
	check(nil, hosts+1)
	check(nil, 0)
	if len(disk.keys) > 0 {
		t.Errorf("%v are saved although nothing changed", disk.keys)
	}
}
