package netmap

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// told is one Map and what was told to it.
type told struct {
	m     *Map
	views []shownView
}

// shownView is a view, and what it showed when it was taken.
type shownView struct {
	view *View
	copy View
	all  []EndpointView
}

func takeView(v *View) shownView {
	copied := *v
	copied.Hosts, copied.Networks, copied.Subnets = slices.Clone(v.Hosts), slices.Clone(v.Networks), slices.Clone(v.Subnets)
	copied.Blocks, copied.Claims, copied.Ranges = slices.Clone(v.Blocks), slices.Clone(v.Claims), slices.Clone(v.Ranges)
	copied.StaticNames = slices.Clone(v.StaticNames)
	copied.Disputes = slices.Clone(v.Disputes)
	return shownView{v, copied, slices.Collect(v.Endpoints())}
}

func (s shownView) check(t *rapid.T) {
	t.Helper()
	if now := takeView(s.view); !reflect.DeepEqual(s.copy, now.copy) || !reflect.DeepEqual(s.all, now.all) {
		t.Fatalf("a view that was taken has changed: %s", cmp.Diff(s, now, compareAddrs, cmp.AllowUnexported(shownView{})))
	}
}

// someChange draws a change of any kind: a host may write what only the ledger may, and the
// other way round.
func someChange(t *rapid.T) Change {
	number := func(label string, most byte) byte { return rapid.ByteRange(1, most).Draw(t, label) }
	host := hostID(number("host", 3))
	low := []netip.Addr{{}, addr("10.32.0.7"), addr("10.32.0.8")}
	var noun any
	switch kind := Kind(number("kind", 14)); kind {
	case KindHostFact:
		return Change{HostFactKey(host), HostFact{MTU: int(number("mtu", 2))}}
	case KindHostEntry:
		noun = HostEntry{ID: host, Index: uint32(number("index", 2)), Removed: number("removed", 8) == 1}
	case KindNetwork:
		noun = Network{ID: NetworkID(number("network", 3)), MTU: int(number("mtu", 2)), Subnets: []netip.Prefix{prefix("10.32.0.0/20")}}
	case KindSubnet:
		noun = Subnet{Prefix: prefix("10.32.0.0/20"), BlockBits: int(number("bits", 2))}
	case KindBlock:
		noun = Block{Prefix: rapid.SampledFrom([]netip.Prefix{prefix("10.32.0.0/29"), prefix("10.32.0.8/29")}).Draw(t, "block"), Subnet: prefix("10.32.0.0/20"), Owner: host}
	case KindClaim:
		noun = Claim{Addr: rapid.SampledFrom(low[1:]).Draw(t, "claim"), Subnet: prefix("10.32.0.0/20"), Owner: host}
	case KindRange:
		noun = Range{Prefix: rapid.SampledFrom([]netip.Prefix{prefix("10.32.0.0/12"), prefix("10.64.0.0/12")}).Draw(t, "range"), Order: int(number("order", 2))}
	case KindStaticName:
		noun = StaticName{Network: NetworkID(number("network", 2)), Name: string(rune('a' + number("name", 2))), Addr: rapid.SampledFrom(low[1:]).Draw(t, "address")}
	case KindName, KindStaticName + 1:
		noun = EndpointName{Endpoint: dockerID(number("endpoint", 3)), Name: string(rune('a' + number("name", 2))), Unhealthy: number("unhealthy", 2) == 1}
	default:
		noun = Endpoint{
			ID: dockerID(number("endpoint", 3)), Network: NetworkID(number("network", 2)),
			V4: rapid.SampledFrom(low).Draw(t, "v4"), V6: rapid.SampledFrom([]netip.Addr{{}, addr("fd00::7")}).Draw(t, "v6"),
		}
	}
	key, _ := KeyOf(noun)
	if number("gone", 4) == 1 {
		noun = nil
	}
	return Change{key, noun}
}

// batch draws what an origin says next: something new, everything, or everything in a new life.
func (w *told) batch(t *rapid.T) Batch {
	origin := rapid.SampledFrom([]ID{cluster, cluster, hostID(1), hostID(2), hostID(3), {0xcc, 15: 2}}).Draw(t, "origin")
	head, _ := w.m.Head(origin)
	b := Batch{Origin: origin, Life: max(head.Life, 1), Prev: head.Seq, Seq: head.Seq + 1}
	if rapid.IntRange(0, 3).Draw(t, "whole") == 0 {
		b.Whole, b.Prev = true, 0
		b.Life += uint64(rapid.IntRange(0, 1).Draw(t, "new life"))
		if old, ok := w.m.Snapshot(origin); ok && rapid.Bool().Draw(t, "the same") {
			b.Records = old.Records
		}
	}
	changes := map[Key]Change{}
	for range rapid.IntRange(0, 4).Draw(t, "records") {
		if c := someChange(t); !b.Whole || c.Value != nil {
			changes[c.Key] = c
		}
	}
	b.Records = slices.DeleteFunc(b.Records, func(r Record) bool { _, again := changes[r.Key]; return again })
	for _, key := range slices.SortedFunc(maps.Keys(changes), Key.Compare) {
		r, err := changes[key].record(b.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if b.Records, b.Seq = append(b.Records, r), b.Seq+1; rapid.Bool().Draw(t, "one index") {
			b.Seq--
		}
	}
	return b
}

// apply tells the Map something, and checks its view.
func (w *told) apply(t *rapid.T) {
	b := w.batch(t)
	if rapid.Bool().Draw(t, "from afar") {
		var err error
		if b, err = DecodeBatch(AppendBatch(nil, b)); err != nil {
			t.Fatal(err)
		}
	}
	before := w.m.View()
	effect, err := w.m.Apply(b)
	if err != nil || effect.Gap != nil {
		t.Fatal(effect, err)
	}
	changes := w.m.View().Since(before)
	if !effect.Changed && (!changes.None() || !reflect.DeepEqual(before.Disputes, w.m.View().Disputes)) {
		t.Fatalf("the effect is no change: %+v", changes)
	}
	if !effect.Advanced && !effect.Changed && before != w.m.View() {
		t.Fatal("a view is made anew without a change")
	}
	w.check(t)
}

// check compares the view with one that is made of all records, and earlier views with what
// they were.
func (w *told) check(t *rapid.T) {
	now := w.m.View()
	if want := w.m.build(); !reflect.DeepEqual(want, now) {
		t.Fatalf("the view (-all records +it):\n%s", cmp.Diff(want, now, compareAddrs))
	}
	var digest Digest
	for _, h := range w.m.Heads() {
		digest.toggle(h)
	}
	if w.m.Digest() != digest {
		t.Fatal("the digest is not that of the heads")
	}
	for _, s := range w.views {
		s.check(t)
	}
	if len(w.views) > 0 {
		checkSince(t, rapid.SampledFrom(w.views).Draw(t, "older").view, now)
	}
	w.views = append(w.views, takeView(now))
}

// TestAViewIsWhatAllRecordsSay, however it came about: changes make it of the view before,
// build of all records. Views that were taken earlier stay as they are.
func TestAViewIsWhatAllRecordsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &told{m: NewMap(rapid.SampledFrom([]ClusterID{cluster, {}}).Draw(t, "cluster"))}
		t.Repeat(map[string]func(*rapid.T){
			"apply": w.apply, "apply more": w.apply, "apply still more": w.apply,
			"set cluster": func(t *rapid.T) {
				w.m.SetCluster(rapid.SampledFrom([]ClusterID{cluster, cluster, {0xcc, 15: 2}}).Draw(t, "cluster"))
				w.check(t)
			},
		})
	})
}
