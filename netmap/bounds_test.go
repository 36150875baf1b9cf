package netmap

import (
	"errors"
	"strings"
	"testing"
)

// TestFactsAreBounded: nobody can make a host hold what the ledger knows nothing of.
func TestFactsAreBounded(t *testing.T) {
	fill := func(m *Map, host HostID) (size int, err error) {
		for seq := uint64(1); err == nil && seq < 10000; seq++ {
			n := Network{ID: NetworkID(seq), Name: strings.Repeat("x", 4000)}
			r, encodeErr := RecordsOf(seq, []Change{{NetworkKey(n.ID), n}})
			if encodeErr != nil {
				t.Fatal(encodeErr)
			}
			_, err = m.Apply(Batch{Origin: host, Life: 1, Prev: seq - 1, Seq: seq, Records: r})
		}
		if l := m.logs[host]; l != nil {
			size = l.bytes
		}
		return size, err
	}
	m := NewMap(cluster)
	say(t, m, cluster, 1, entryOf(hostID(1), false))
	if size, err := fill(m, hostID(1)); !errors.Is(err, ErrMalformed) || size > maxLogBytes || size < maxLogBytes/2 {
		t.Errorf("a host that was admitted fills %d bytes, %v", size, err)
	}
	all := 0
	for i := range 4 {
		size, err := fill(m, ID{9, byte(i), 1})
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("a host that nobody admitted fills %d bytes, %v", size, err)
		}
		all += size
	}
	if all > maxUnknownBytes {
		t.Errorf("four hosts that nobody admitted fill %d bytes", all)
	}
	if e := say(t, m, hostID(1), 2, endpoint(1, "10.32.0.1")); !e.Advanced || m.logs[hostID(1)].bytes > 1000 {
		t.Errorf("what a host said before is held: %d bytes", m.logs[hostID(1)].bytes)
	}
}
