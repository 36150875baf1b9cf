package gossip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/netmap"
)

// latestOf is the index of a roster, made anew from all starts.
func latestOf(r *roster) map[netmap.HostID]Member {
	out := map[netmap.HostID]Member{}
	for _, m := range r.nodes {
		if old, known := out[m.ID]; m.ID != r.self.ID && (!known || later(m, old) > 0) {
			out[m.ID] = m
		}
	}
	return out
}

// TestTheIndexOfMembersFollowsEveryEvent compares it with one that is made anew.
func TestTheIndexOfMembersFollowsEveryEvent(t *testing.T) {
	chance, now := rand.New(rand.NewPCG(5, 6)), time.Unix(1000, 0)
	r := newRoster(Member{ID: netmap.HostID{1}, Start: 1, Nonce: 1, Alive: true})
	clusters := []netmap.ClusterID{{1}, {1}, {1}, {}}
	for step := range 4000 {
		now = now.Add(time.Second)
		host, start := netmap.HostID{byte(1 + chance.IntN(12))}, 1+chance.Uint64N(4)
		m := meta{Host: host, Start: start, Nonce: start << 40, Cluster: clusters[chance.IntN(4)], Keeper: chance.IntN(3) == 0}
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host[0]}), uint16(1+chance.IntN(2)))
		r.update(event{kind: eventKind(chance.IntN(2)), name: nodeName(host, m.Nonce), addr: at}, m, now)
		if step%50 == 0 {
			r.prune(now, func(id netmap.HostID) bool { return id[0] == byte(step%12) })
		}
		want := latestOf(r)
		if diff := cmp.Diff(want, r.latest, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Fatalf("step %d: %s", step, diff)
		}
		alive := 0
		for id, m := range want {
			if got := r.memberAt(m.Addr, m.Cluster); m.Alive && got.ID != id {
				t.Fatalf("step %d: at %s is %+v, want %+v", step, m.Addr, got, m)
			}
			if m.Alive && m.Cluster == clusters[0] {
				alive++
			}
		}
		if got := r.live(clusters[0]); len(got) != alive {
			t.Fatalf("step %d: %d are alive, want %d", step, len(got), alive)
		}
		some := r.pick(clusters[0], 3)
		slices.SortFunc(some, func(a, b Member) int { return slices.Compare(a.ID[:], b.ID[:]) })
		if len(some) != min(3, alive) || len(slices.CompactFunc(slices.Clone(some), func(a, b Member) bool { return a.ID == b.ID })) != len(some) {
			t.Fatalf("step %d: picked %+v of %d", step, some, alive)
		}
	}
}

// BenchmarkOneOfManyMembers: what is picked ten times a second costs the same at every size.
func BenchmarkOneOfManyMembers(b *testing.B) {
	for _, hosts := range []int{10, 1000} {
		b.Run(fmt.Sprint(hosts), func(b *testing.B) {
			r := newRoster(Member{ID: netmap.HostID{255}, Start: 1, Nonce: 1, Alive: true})
			for n := range hosts {
				m := meta{Host: netmap.HostID{1, byte(n >> 8), byte(n)}, Start: 1, Nonce: uint64(n+1) << 40}
				r.update(event{name: nodeName(m.Host, m.Nonce)}, m, time.Unix(1000, 0))
			}
			b.ReportAllocs()
			for b.Loop() {
				r.pick(netmap.ClusterID{}, 1)
			}
		})
	}
}
