package dns

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

func word(i int) string { return strconv.Itoa(i) }

// numbered is the address with a number, counted from 1.
func numbered(i int) (v4, v6 netip.Addr) {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// crowd is a cluster of so many containers, as Docker names them, on one network.
func crowd(containers int) *netmap.View {
	v := &netmap.View{Networks: []netmap.Network{{ID: 1, Name: "overlay", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}
	all := make([]netmap.EndpointView, containers)
	for i := range all {
		e := &all[i]
		e.ID, e.Network, e.Host = netmap.EndpointID(fmt.Sprintf("%064x", i)), 1, netmap.HostID{1, byte(i >> 8)}
		e.V4, _ = numbered(i + 1)
		short := fmt.Sprintf("%012x", i)
		e.Names = &netmap.EndpointName{
			Endpoint: e.ID, Name: fmt.Sprintf("container-%d", i), Aliases: []string{short, fmt.Sprintf("service-%d", i/3)},
			Hostname: short, Short: short, Services: []netmap.Service{{Port: 80, Protocol: netmap.TCP}},
		}
	}
	return v.WithEndpoints(all...)
}

func BenchmarkAnswer(b *testing.B) {
	view := crowd(50_000)
	n := New(Config{TTL: 5 * time.Second})
	n.Apply(view, view.Since(nil))
	from := Asker{Networks: []netmap.NetworkID{1}}
	for _, q := range []struct {
		what, name string
		qtype      uint16
	}{
		{"one", "container-4711.", wire.TypeA},
		{"three", "service-4711.overlay.weft.local.", wire.TypeA},
		{"nodata", "container-4711.", wire.TypeAAAA},
		{"pass", "www.example.com.", wire.TypeA},
		{"nxdomain", "nothing.weft.local.", wire.TypeA},
		{"SRV", "_80._tcp.container-4711.", wire.TypeSRV},
		{"PTR", "9.4.0.10.in-addr.arpa.", wire.TypePTR},
	} {
		query := new(wire.Msg).SetQuestion(q.name, q.qtype)
		b.Run(q.what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n.Answer(from, query)
			}
		})
	}
}

// BenchmarkMemory reports what the names of 50,000 containers take beyond the facts themselves.
func BenchmarkMemory(b *testing.B) {
	const containers = 50_000
	view := crowd(containers)
	changes := view.Since(nil)
	for b.Loop() {
		before := heap()
		n := New(Config{})
		n.Apply(view, changes)
		names := len(n.networks[1].bearers)
		b.ReportMetric(float64(heap()-before)/containers, "B/container")
		b.ReportMetric(float64(heap()-before)/float64(names), "B/name")
		runtime.KeepAlive(n)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkApplyOne(b *testing.B) {
	view := crowd(50_000)
	n := New(Config{})
	n.Apply(view, view.Since(nil))
	one := view.Since(nil).Endpoints[4711].New
	b.ReportAllocs()
	for b.Loop() {
		n.Apply(view, netmap.Changes{Endpoints: []netmap.Changed[netmap.EndpointView]{{Old: one, New: one}}})
	}
}
