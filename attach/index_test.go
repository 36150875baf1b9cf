package attach

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

// naiveHolder does what endpoints.holder does, by looking at all endpoints.
func naiveHolder(all []EndpointRecord, a netip.Addr) (found EndpointRecord, ok bool) {
	for _, r := range all {
		if a.IsValid() && slices.Contains(addrsOf(r.Endpoint), a) {
			found, ok = r, true
			if r.Evicted == "" {
				break
			}
		}
	}
	return found, ok
}

// TestHolders: the index by address returns the same holder as naiveHolder after endpoints were
// added, removed, evicted and moved to other addresses.
func TestHolders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEndpoints()
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			return [...]netip.Addr{{}, netip.MustParseAddr("10.32.0.2"), netip.MustParseAddr("10.32.0.3"), netip.MustParseAddr("fd00::2")}[rapid.IntRange(0, 3).Draw(t, "addr")]
		})
		id := rapid.Custom(func(t *rapid.T) netmap.EndpointID {
			return netmap.EndpointID(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id"))
		})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				e.put(EndpointRecord{
					Endpoint: netmap.Endpoint{ID: id.Draw(t, "id"), V4: addr.Draw(t, "v4"), V6: addr.Draw(t, "v6")},
					Evicted:  rapid.SampledFrom([]string{"", "to host-b"}).Draw(t, "evicted"),
				})
			},
			"drop": func(t *rapid.T) { e.drop(id.Draw(t, "id")) },
			"": func(t *rapid.T) {
				a := addr.Draw(t, "of")
				got, ok := e.holder(a)
				want, wantOK := naiveHolder(e.sorted(), a)
				if got != want || ok != wantOK {
					t.Fatalf("%s is held by %+v, %v; want %+v, %v", a, got, ok, want, wantOK)
				}
				if len(e.at) > 2*len(e.byID) {
					t.Fatalf("%d addresses of %d endpoints", len(e.at), len(e.byID))
				}
			},
		})
	})
}

// BenchmarkHolder measures a look-up. The IPAM makes up to three for each address.
func BenchmarkHolder(b *testing.B) {
	for _, many := range []int{10, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", many), func(b *testing.B) {
			e := newEndpoints()
			a := netip.MustParseAddr("10.32.0.2")
			for n := range many {
				e.put(EndpointRecord{Endpoint: netmap.Endpoint{ID: netmap.EndpointID(fmt.Sprintf("%064d", n)), V4: a}})
				a = a.Next()
			}
			for b.Loop() {
				if _, ok := e.holder(netip.MustParseAddr("10.32.0.5")); !ok {
					b.Fatal("nobody has it")
				}
			}
		})
	}
}
