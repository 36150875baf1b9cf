package netmap

import (
	"runtime"
	"testing"
	"unsafe"
)

// heapOf returns how many bytes of the heap what fn returns takes.
func heapOf(fn func() any) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := fn()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return after.HeapAlloc - before.HeapAlloc
}

// TestMemoryOfAnEndpoint bounds what every host of a cluster keeps of each endpoint in it, and of
// its container's name: the log and the view, which share what they can. It is 680 bytes.
func TestMemoryOfAnEndpoint(t *testing.T) {
	const hosts, endpoints, atMost = 100, 50, 750
	one := heapOf(func() any { return crowd(t, hosts, endpoints) }) / (hosts * endpoints)
	if t.Logf("%d bytes", one); one > atMost {
		t.Errorf("an endpoint takes %d bytes, want at most %d", one, atMost)
	}
}

// TestEndpointsShareTheirText: an endpoint's id is in memory once, and the strings of its name
// are in the record's value.
func TestEndpointsShareTheirText(t *testing.T) {
	m := crowd(t, 1, 3)
	b, _ := m.Snapshot(crowdHost(0))
	b.Life++ // as after a restart
	if b, err := DecodeBatch(AppendBatch(nil, b)); err != nil {
		t.Fatal(err)
	} else if _, err := m.Apply(b); err != nil {
		t.Fatal(err)
	}
	same := func(what, a, b string) {
		if a != b || unsafe.StringData(a) != unsafe.StringData(b) {
			t.Errorf("%s: %q and %q are not the same memory", what, a, b)
		}
	}
	for key, e := range m.logs[crowdHost(0)].entries {
		switch key.Kind {
		case KindEndpoint:
			same("the key of an endpoint", key.ID, string(e.noun.(*announced).ID))
		case KindName:
			of := m.logs[crowdHost(0)].entries[Key{KindEndpoint, key.ID}].noun.(*announced)
			same("the key of a name", key.ID, string(of.ID))
			same("whose name it is", key.ID, string(of.Names.Endpoint))
			same("a name", of.Name, e.value[1:1+len(of.Name)])
		}
	}
}
