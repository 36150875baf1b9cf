package netmap

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
)

// crowd is a Map of a cluster of so many hosts with so many endpoints each on one network, all
// of them named.
func crowd(tb testing.TB, hosts, endpoints int) *Map {
	tb.Helper()
	m := NewMap(cluster)
	var members []Change
	for h := range hosts {
		members = append(members, Change{HostEntryKey(crowdHost(h)), HostEntry{ID: crowdHost(h), Name: "h", Index: uint32(h + 1)}})
	}
	records, err := RecordsOf(1, members)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := m.Apply(Batch{Origin: cluster, Life: 1, Seq: 1, Records: records}); err != nil {
		tb.Fatal(err)
	}
	for h := range hosts {
		b := Batch{Origin: crowdHost(h), Life: 1, Whole: true}
		for i := range endpoints {
			for k, v := range crowdEndpoint(h, i, fmt.Sprint("web-", h, "-", i)).Facts() {
				b.Seq++
				r, err := (Change{k, v}).record(b.Seq)
				if err != nil {
					tb.Fatal(err)
				}
				b.Records = append(b.Records, r)
			}
		}
		slices.SortFunc(b.Records, func(x, y Record) int { return x.Key.Compare(y.Key) })
		b, err := DecodeBatch(AppendBatch(nil, b)) // as from another host
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := m.Apply(b); err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

func crowdHost(h int) HostID { return HostID{1, byte(h >> 8), byte(h)} }

func crowdEndpoint(h, i int, name string) Endpoint {
	n := h*5000 + i
	a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return Endpoint{ID: EndpointID(fmt.Sprintf("%064x", n)), Network: 5, V4: a, MAC: MACOf(a), Name: name}
}

// BenchmarkChange is one endpoint that comes or goes, until the view has it.
func BenchmarkChange(b *testing.B) {
	for _, size := range [][2]int{{10, 50}, {1000, 50}, {1, 5000}} {
		b.Run(fmt.Sprint(size[0], "x", size[1]), func(b *testing.B) {
			m := crowd(b, size[0], size[1])
			m.View()
			e := crowdEndpoint(0, 4999, "")
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				c := Change{EndpointKey(e.ID), nil}
				if n%2 == 0 {
					c.Value = e
				}
				if _, err := m.Append(crowdHost(0), 1, []Change{c}); err != nil {
					b.Fatal(err)
				}
				m.View()
			}
		})
	}
}

// BenchmarkHeap is what one endpoint and its name take in a Map and its view, in bytes.
func BenchmarkHeap(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := crowd(b, 1000, 50)
		v := m.View()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/50_000, "B/endpoint")
		runtime.KeepAlive(m)
		runtime.KeepAlive(v)
	}
}

// BenchmarkSince is what differs between the views before and after one endpoint came.
func BenchmarkSince(b *testing.B) {
	m := crowd(b, 1000, 50)
	old := m.View()
	e := crowdEndpoint(0, 4999, "")
	if _, err := m.Append(crowdHost(0), 1, []Change{{EndpointKey(e.ID), e}}); err != nil {
		b.Fatal(err)
	}
	now := m.View()
	b.ReportAllocs()
	for b.Loop() {
		if c := now.Since(old); len(c.Endpoints) != 1 {
			b.Fatal(c)
		}
	}
}
