package datapath_test

import (
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"testing"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// crowd is a view with n endpoints of another host.
func crowd(n int) *netmap.View {
	all := make([]netmap.EndpointView, n)
	for i := range all {
		at := netip.AddrFrom4([4]byte{10, 32 + byte(i>>16), byte(i >> 8), byte(i)})
		all[i] = endpoint(fmt.Sprintf("%064x", i), hostB, at.String())
	}
	return view(with(all...))
}

// allocated returns how many bytes fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestOperationsAreNotCollected: what a large network takes is yielded, and not in memory at any
// moment, whether the network is joined or compared with an empty kernel. An operation is of some
// 170 bytes; what a join takes is in the model.
func TestOperationsAreNotCollected(t *testing.T) {
	const endpoints = 10_000
	full, alone := crowd(endpoints), local()
	alone.Networks = nil
	m := datapath.NewModel(hostA)
	m.Update(full, alone, nil)
	for _, c := range []struct {
		name   string
		atMost uint64 // bytes for each operation
		ops    func() iter.Seq[datapath.Op]
	}{
		{"join", 200, func() iter.Seq[datapath.Op] { ops, _ := m.Update(full, local(), nil); return ops }},
		{"set", 60, func() iter.Seq[datapath.Op] { return datapath.Steps(datapath.State{}, m.State()) }},
	} {
		n := uint64(0)
		bytes := allocated(func() {
			for batch := range datapath.Batches(c.ops(), 64) {
				n += uint64(len(batch))
			}
		})
		if t.Logf("%s: %d bytes for each of %d operations", c.name, bytes/max(1, n), n); n < 3*endpoints || bytes > c.atMost*n {
			t.Errorf("%s: %d operations took %d bytes, want at most %d for each", c.name, n, bytes, c.atMost)
		}
	}
}

// TestMemoryOfAModel bounds what a model keeps of each endpoint beside the view. It is some 140
// bytes.
func TestMemoryOfAModel(t *testing.T) {
	const endpoints, atMost = 10_000, 190
	full := crowd(endpoints)
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	m := datapath.NewModel(hostA)
	m.Update(full, local(), nil)
	one := (inUse() - before) / endpoints
	runtime.KeepAlive(m)
	runtime.KeepAlive(full)
	if t.Logf("%d bytes", one); one > atMost {
		t.Errorf("an endpoint takes %d bytes, want at most %d", one, atMost)
	}
}
