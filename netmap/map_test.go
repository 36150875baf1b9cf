package netmap

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var cluster = ClusterID{0xcc, 15: 1}

func must(t testing.TB, m *Map, b Batch) Effect {
	t.Helper()
	e, err := m.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func say(t testing.TB, m *Map, host HostID, life uint64, changes ...Change) Effect {
	t.Helper()
	e, err := m.Append(host, life, changes)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func decide(t testing.TB, m *Map, prev, seq uint64, changes ...Change) Effect {
	t.Helper()
	records, err := RecordsOf(seq, changes)
	if err != nil {
		t.Fatal(err)
	}
	return must(t, m, Batch{Origin: cluster, Life: 1, Prev: prev, Seq: seq, Records: records})
}

func endpoint(n byte, v4 string) Change {
	e := Endpoint{ID: dockerID(n), Network: 5, V4: addr(v4), MAC: MACOf(addr(v4))}
	return Change{EndpointKey(e.ID), e}
}

func gone(c Change) Change { return Change{Key: c.Key} }

func entryOf(id HostID, removed bool) Change {
	return Change{HostEntryKey(id), HostEntry{ID: id, Name: "h", Index: uint32(id[0]), Removed: removed}}
}

func ids(v *View) []EndpointID {
	var out []EndpointID
	for e := range v.Endpoints() {
		out = append(out, e.ID)
	}
	return out
}

// copyOf catches a fresh map up with another by pulls alone.
func catchUp(t testing.TB, to, from *Map, limit int) {
	t.Helper()
	for _, p := range to.Compare(from.HeadsUnlike(to.Digest())) {
		for range 10_000 {
			b, more, ok := from.Answer(p, limit)
			if !ok {
				t.Fatalf("nothing known of %s", p.Origin.Short())
			}
			for p := p; b.Whole && more; {
				p.After = b.LastKey()
				next, again, _ := from.Answer(p, limit)
				if b, ok = b.Join(next); !ok {
					t.Fatal("pages do not join")
				}
				more = again
			}
			must(t, to, b)
			if !more {
				break
			}
			p.From = b.Seq
		}
	}
}

func TestApplyKnowsWhatIsMissing(t *testing.T) {
	rec := func(seq uint64, key string) Record {
		return Record{Seq: seq, Key: Key{99, key}, Value: key}
	}
	host := hostID(1)
	base := Batch{Origin: host, Life: 2, Seq: 5, Records: []Record{rec(5, "a")}}
	for name, c := range map[string]struct {
		batch Batch
		want  Effect
	}{
		"the next":               {Batch{Origin: host, Life: 2, Prev: 5, Seq: 6, Records: []Record{rec(6, "b")}}, Effect{Changed: true, Advanced: true}},
		"overlapping":            {Batch{Origin: host, Life: 2, Prev: 4, Seq: 6, Records: []Record{rec(5, "a"), rec(6, "b")}}, Effect{Changed: true, Advanced: true}},
		"nothing new in it":      {Batch{Origin: host, Life: 2, Prev: 5, Seq: 7}, Effect{Advanced: true}},
		"the same again":         {base, Effect{}},
		"a gap":                  {Batch{Origin: host, Life: 2, Prev: 6, Seq: 7}, Effect{Gap: &Pull{Origin: host, Life: 2, From: 5}}},
		"an older life":          {Batch{Origin: host, Life: 1, Seq: 100, Whole: true}, Effect{}},
		"an older snapshot":      {Batch{Origin: host, Life: 2, Seq: 4, Whole: true}, Effect{}},
		"a newer snapshot":       {Batch{Origin: host, Life: 2, Seq: 9, Whole: true}, Effect{Changed: true, Advanced: true}},
		"a new life":             {Batch{Origin: host, Life: 3, Seq: 1, Whole: true}, Effect{Changed: true, Advanced: true}},
		"the same in a new life": {Batch{Origin: host, Life: 3, Seq: 1, Whole: true, Records: []Record{rec(1, "a")}}, Effect{Advanced: true}},
		"a new life's beginning": {Batch{Origin: host, Life: 3, Seq: 1, Records: []Record{rec(1, "a")}}, Effect{Gap: &Pull{Origin: host, Life: 3}}},
		"the unknown's middle":   {Batch{Origin: hostID(2), Life: 3, Prev: 1, Seq: 2}, Effect{Gap: &Pull{Origin: hostID(2), Life: 3}}},
		"the unknown's start":    {Batch{Origin: hostID(2), Life: 3, Seq: 2, Records: []Record{rec(2, "a")}}, Effect{Changed: true, Advanced: true}},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMap(cluster)
			must(t, m, base)
			if diff := cmp.Diff(c.want, must(t, m, c.batch)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	m := NewMap(cluster)
	for name, b := range map[string]Batch{
		"no origin":    {Life: 1, Seq: 1},
		"no life":      {Origin: hostID(1), Seq: 1},
		"backwards":    {Origin: hostID(1), Life: 1, Prev: 2, Seq: 1},
		"a bad record": {Origin: hostID(1), Life: 1, Seq: 1, Records: []Record{{Seq: 1, Key: NetworkKey(1), Value: "\xc8"}}},
	} {
		if _, err := m.Apply(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

func TestOriginsAreBounded(t *testing.T) {
	m := NewMap(cluster)
	var last error
	for i := range maxOrigins + 1 {
		_, last = m.Apply(Batch{Origin: ID{1, byte(i >> 16), byte(i >> 8), byte(i)}, Life: 1, Seq: 1, Whole: true})
	}
	if !errors.Is(last, ErrMalformed) || len(m.Origins()) != maxOrigins {
		t.Errorf("%d origins, %v", len(m.Origins()), last)
	}
}

func TestAppendSaysOnlyWhatChanged(t *testing.T) {
	m, host := NewMap(cluster), hostID(1)
	say(t, m, host, 1, endpoint(1, "10.32.0.1"), endpoint(2, "10.32.0.2"))
	if e := say(t, m, host, 1, endpoint(1, "10.32.0.1"), gone(endpoint(7, "10.0.0.1"))); e.Advanced || e.Changed {
		t.Errorf("saying the same again: %+v", e)
	}
	say(t, m, host, 1, endpoint(2, "10.32.0.3"), gone(endpoint(1, "10.32.0.1")))
	if h, _ := m.Head(host); h.Seq != 4 {
		t.Errorf("head is %d, want 4", h.Seq)
	}
	if diff := cmp.Diff([]EndpointID{dockerID(2)}, ids(m.View())); diff != "" {
		t.Error(diff)
	}
}

func TestARestartThatSaysTheSameChangesNothing(t *testing.T) {
	origin, other, host := NewMap(cluster), NewMap(cluster), hostID(1)
	say(t, origin, host, 1, endpoint(1, "10.32.0.1"), endpoint(2, "10.32.0.2"))
	catchUp(t, other, origin, 1<<20)
	before := other.View()

	again := NewMap(cluster)
	say(t, again, host, 2, endpoint(2, "10.32.0.2"), endpoint(1, "10.32.0.1"))
	catchUp(t, other, again, 1<<20)
	if other.View() != before {
		t.Error("the view was built anew although nothing changed")
	}
	if h, _ := other.Head(host); h.Life != 2 {
		t.Errorf("life is %d, want 2", h.Life)
	}

	third := NewMap(cluster)
	say(t, third, host, 3)
	catchUp(t, other, third, 1<<20)
	if got := slices.Collect(other.View().Endpoints()); len(got) != 0 {
		t.Errorf("a life that says nothing left %v", got)
	}
}

func TestDroppedTombstonesCannotResurrect(t *testing.T) {
	origin, behind, host := NewMap(cluster), NewMap(cluster), hostID(1)
	say(t, origin, host, 1, Change{NetworkKey(1), Network{ID: 1}})
	say(t, origin, host, 1, Change{NetworkKey(2), Network{ID: 2}})
	catchUp(t, behind, origin, 1<<20)
	old, _ := origin.Since(host, 1, 1)
	say(t, origin, host, 1, Change{Key: NetworkKey(1)})
	for i := range 3 * keptTombs {
		id := NetworkID(100 + i)
		say(t, origin, host, 1, Change{NetworkKey(id), Network{ID: id}})
		say(t, origin, host, 1, Change{Key: NetworkKey(id)})
	}
	if n := len(origin.logs[host].entries); n > 2*keptTombs+2 {
		t.Errorf("%d entries are kept", n)
	}
	head, _ := behind.Head(host)
	if _, ok := origin.Since(host, 1, head.Seq); ok {
		t.Error("the log claims to reach back to before its floor")
	}
	must(t, origin, old)
	catchUp(t, behind, origin, 500)
	want := []Head{}
	want = append(want, origin.Heads()...)
	if diff := cmp.Diff(want, behind.Heads()); diff != "" {
		t.Error(diff)
	}
	if b, _ := origin.Snapshot(host); len(b.Records) != 1 {
		t.Errorf("%d records live, want network 2 alone", len(b.Records))
	}
}

func TestAnswersComeInPages(t *testing.T) {
	origin, host := NewMap(cluster), hostID(1)
	say(t, origin, host, 1)
	for i := range 200 {
		say(t, origin, host, 1, Change{NetworkKey(NetworkID(i + 1)), Network{ID: NetworkID(i + 1), Name: fmt.Sprint("net", i)}})
	}
	for _, limit := range []int{1, 300, 4000, 1 << 20} {
		fresh, tail := NewMap(cluster), NewMap(cluster)
		catchUp(t, fresh, origin, limit)
		first, _ := origin.Snapshot(host)
		first.Seq, first.Records = 50, nil
		must(t, tail, first)
		catchUp(t, tail, origin, limit)
		if fresh.Digest() != origin.Digest() {
			t.Errorf("pages of %d bytes: copy differs", limit)
		}
	}
}

func TestPagesOfDifferentMomentsConverge(t *testing.T) {
	origin, fresh, host := NewMap(cluster), NewMap(cluster), hostID(1)
	net := func(i int, name string) Change {
		return Change{NetworkKey(NetworkID(i)), Network{ID: NetworkID(i), Name: name}}
	}
	say(t, origin, host, 1, net(1, "a"), net(2, "b"), net(3, "c"), net(4, "d"))
	p := Pull{Origin: host, Life: 1}
	first, more, _ := origin.Answer(p, 1)
	say(t, origin, host, 1, gone(net(1, "")), net(3, "changed"), gone(net(4, "")), net(5, "new"))
	for more {
		p.After = first.LastKey()
		var next Batch
		next, more, _ = origin.Answer(p, 1)
		first, _ = first.Join(next)
	}
	must(t, fresh, first)
	catchUp(t, fresh, origin, 1<<20)
	if diff := cmp.Diff(origin.Heads(), fresh.Heads()); diff != "" {
		t.Error(diff)
	}
	if _, ok := first.Join(Batch{Whole: true, Origin: host, Life: 2}); ok {
		t.Error("pages of two lives were joined")
	}
}

func TestTheLedgersWordCountsRaftIndexes(t *testing.T) {
	m := NewMap(cluster)
	net := Network{ID: 3, Name: "overlay", Subnets: []netip.Prefix{prefix("10.32.0.0/20")}}
	decide(t, m, 0, 3, Change{NetworkKey(3), net}, Change{SubnetKey(net.Subnets[0]), Subnet{Prefix: net.Subnets[0]}})
	before := m.View()
	if e := decide(t, m, 3, 17); e.Changed || !e.Advanced {
		t.Errorf("an entry that changes nothing: %+v", e)
	}
	if got := m.View(); got.Decided != 17 || before.Decided != 3 {
		t.Errorf("decided is %d after %d, want 17 after 3", got.Decided, before.Decided)
	}
	if e := decide(t, m, 20, 22); e.Gap == nil || e.Gap.From != 17 {
		t.Errorf("a gap in the ledger: %+v", e)
	}
}

func TestOnlyTheRightWriterIsBelieved(t *testing.T) {
	m, host := NewMap(cluster), hostID(1)
	say(t, m, host, 1, Change{NetworkKey(9), Network{ID: 9}}, Change{HostFactKey(hostID(2)), HostFact{Name: "not me"}},
		Change{HostFactKey(host), HostFact{Name: "me"}})
	decide(t, m, 0, 1, endpoint(1, "10.32.0.1"))
	want := &View{Cluster: cluster, Decided: 1, Generation: 1, Hosts: []HostView{{ID: host, Fact: HostFact{Name: "me"}}}}
	if diff := cmp.Diff(want, m.View(), compareAddrs); diff != "" {
		t.Error(diff)
	}
}

func TestARemovedHostIsForgotten(t *testing.T) {
	m, host := NewMap(cluster), hostID(1)
	decide(t, m, 0, 1, entryOf(host, false))
	say(t, m, host, 4, endpoint(1, "10.32.0.1"))
	late, _ := m.Snapshot(host)
	if e := decide(t, m, 1, 2, entryOf(host, true)); !e.Changed {
		t.Error("a removal changes nothing")
	}
	late.Seq++
	if e := must(t, m, late); e != (Effect{}) {
		t.Errorf("its facts are taken in again: %+v", e)
	}
	if got := m.Compare([]Head{{Origin: host, Life: 9, Seq: 9}}); got != nil {
		t.Errorf("its facts are pulled again: %v", got)
	}
	if v := m.View(); len(ids(v)) != 0 || len(v.Hosts) != 1 || !v.Hosts[0].Entry.Removed {
		t.Errorf("view: %+v", v)
	}

	newcomer := NewMap(ClusterID{})
	must(t, newcomer, Batch{Origin: host, Life: 4, Seq: 1, Whole: true})
	snap, _ := m.Snapshot(cluster)
	must(t, newcomer, snap)
	newcomer.SetCluster(cluster)
	if got := newcomer.Origins(); len(got) != 1 || newcomer.Cluster() != cluster {
		t.Errorf("origins after admission: %v", got)
	}
}

func TestDivergedCopiesAreFound(t *testing.T) {
	a, b, host := NewMap(cluster), NewMap(cluster), hostID(1)
	say(t, a, host, 1, endpoint(1, "10.32.0.1"))
	say(t, b, host, 1, endpoint(1, "10.32.0.2"))
	if a.Digest() == b.Digest() {
		t.Fatal("digests are equal")
	}
	if got := a.Compare(b.Heads()); got != nil {
		t.Errorf("a cannot be behind: %v", got)
	}
	if diff := cmp.Diff([]Pull{{Origin: host}}, a.Diverged(b.Heads())); diff != "" {
		t.Error(diff)
	}
	snap, more, ok := b.Answer(Pull{Origin: host}, 1<<20)
	if !ok || more || !snap.Whole {
		t.Fatal("the cure is not a snapshot")
	}
	must(t, a, snap)
	if a.Digest() != b.Digest() {
		t.Error("the snapshot did not cure it")
	}
}

func TestCacheSurvivesARestart(t *testing.T) {
	m, host := NewMap(cluster), hostID(1)
	say(t, m, host, 3, endpoint(1, "10.32.0.1"))
	decide(t, m, 0, 8, entryOf(host, false))
	again := NewMap(cluster)
	for _, id := range m.Origins() {
		if err := again.LoadCache(m.MarshalCache(id)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(m.View(), again.View(), compareAddrs); diff != "" {
		t.Error(diff)
	}
	old := m.MarshalCache(host)
	say(t, m, host, 4, endpoint(2, "10.32.0.2"))
	if err := m.LoadCache(old); err != nil {
		t.Fatal(err)
	}
	if h, _ := m.Head(host); h.Life != 4 {
		t.Error("an old cache won over newer facts")
	}
	for _, bad := range [][]byte{nil, {9}, {cacheFormat, 1, 2}} {
		if err := again.LoadCache(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if m.MarshalCache(hostID(9)) != nil {
		t.Error("something is cached of an unknown origin")
	}
}
