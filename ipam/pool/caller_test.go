package pool

import (
	"fmt"
	"testing"

	"github.com/weftnet/weft/netmap"
)

// TestHeldByFindsWhatACallerHolds and nothing that it holds no more.
func TestHeldByFindsWhatACallerHolds(t *testing.T) {
	web := Caller{Owner: netmap.OwnerCNI, ID: "web"}
	for name, c := range map[string]struct {
		then  func(p *Pool)
		found string
	}{
		"held":                    {func(*Pool) {}, "10.40.0.5"},
		"released":                {func(p *Pool) { p.Release(addr("10.40.0.5"), Use{Seq: p.NextSeq()}) }, ""},
		"released, endpoint left": {func(p *Pool) { p.Put(addr("10.40.0.5"), Use{Held: true, Leaving: true, Caller: web}) }, ""},
		"another host's":          {func(p *Pool) { p.Put(addr("10.40.0.5"), Use{Held: true, Evicted: true, Caller: web}) }, ""},
		"another caller's":        {func(p *Pool) { p.Hold(addr("10.40.0.5"), Use{Caller: Caller{Owner: netmap.OwnerCNI, ID: "db"}}) }, ""},
		"forgotten":               {func(p *Pool) { p.Forget(addr("10.40.0.5")) }, ""},
		"a second one as well":    {func(p *Pool) { p.Hold(addr("10.40.0.6"), Use{Caller: web}) }, "10.40.0.5"},
		"only the second one": {func(p *Pool) {
			p.Hold(addr("10.40.0.6"), Use{Caller: web})
			p.Release(addr("10.40.0.5"), Use{Seq: p.NextSeq()})
		}, "10.40.0.6"},
	} {
		p := New(subnet("10.40.0.0/24", 28))
		p.AddBlock(netmap.Block{Prefix: prefix("10.40.0.0/28")})
		p.Hold(addr("10.40.0.4"), Use{Caller: Caller{Owner: netmap.OwnerDocker, ID: "web"}})
		p.Hold(addr("10.40.0.5"), Use{Caller: web})
		c.then(p)
		got := ""
		if a, ok := p.HeldBy(web, prefix("10.40.0.0/24")); ok {
			got = a.String()
		}
		if got != c.found {
			t.Errorf("%s: found %q, want %q", name, got, c.found)
		}
		if a, ok := p.HeldBy(web, prefix("10.40.0.128/25")); ok {
			t.Errorf("%s: found %s outside the area", name, a)
		}
	}
}

// BenchmarkHeldBy: a repeated request is found as fast among many callers as among few.
func BenchmarkHeldBy(b *testing.B) {
	for _, callers := range []int{10, 60000} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			p := New(subnet("10.0.0.0/8", 16))
			p.AddBlock(netmap.Block{Prefix: prefix("10.1.0.0/16")})
			for n := range callers {
				a, _ := p.Pick(prefix("10.0.0.0/8"), "")
				p.Hold(a, Use{Caller: Caller{Owner: netmap.OwnerCNI, ID: fmt.Sprint(n)}})
			}
			for b.Loop() {
				if _, ok := p.HeldBy(Caller{Owner: netmap.OwnerCNI, ID: "7"}, prefix("10.0.0.0/8")); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}
