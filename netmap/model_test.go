package netmap

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// world is three hosts and a cluster of copies that lose, double, delay and
// reorder what they tell each other. truth is the naive model: what each origin
// said last.
type world struct {
	copies  []*Map // copies[i] is host i's; it writes the log of host i
	lives   []uint64
	truth   map[ID]map[NetworkID]string
	air     []Batch
	decided uint64
}

func newWorld(n int) *world {
	w := &world{truth: map[ID]map[NetworkID]string{cluster: {}}}
	for i := range n {
		w.copies = append(w.copies, NewMap(cluster))
		w.lives = append(w.lives, 1)
		w.truth[hostID(byte(i+1))] = map[NetworkID]string{}
	}
	return w
}

func change(id NetworkID, name string) Change {
	if name == "" {
		return Change{Key: NetworkKey(id)}
	}
	return Change{NetworkKey(id), Network{ID: id, Name: name}}
}

func note(truth map[NetworkID]string, id NetworkID, name string) {
	if name == "" {
		delete(truth, id)
		return
	}
	truth[id] = name
}

// apply takes a batch in and checks that the copy never goes backwards.
func (w *world) apply(t *rapid.T, to int, b Batch) {
	m := w.copies[to]
	if b.Origin == hostID(byte(to+1)) {
		return // nobody tells a host about itself
	}
	before, _ := m.Head(b.Origin)
	if _, err := m.Apply(b); err != nil {
		t.Fatal(err)
	}
	if after, _ := m.Head(b.Origin); !after.Covers(before) {
		t.Fatalf("copy %d of %s went back from %+v to %+v", to, b.Origin.Short(), before, after)
	}
}

var (
	anyID   = rapid.Map(rapid.IntRange(1, 6), func(n int) NetworkID { return NetworkID(n) })
	anyName = rapid.SampledFrom([]string{"", "a", "b", "c"})
)

// anyHost draws the index of a copy.
func (w *world) anyHost(t *rapid.T, label string) int {
	return rapid.IntRange(0, len(w.copies)-1).Draw(t, label)
}

func (w *world) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"announce": w.announce,
		"decide":   w.decide,
		"deliver":  w.deliver,
		"pull": func(t *rapid.T) {
			to, from := w.anyHost(t, "to"), w.anyHost(t, "from")
			w.pull(t, to, from, rapid.SampledFrom([]int{1, 200, 1 << 20}).Draw(t, "limit"))
		},
		"restart": func(t *rapid.T) {
			i := w.anyHost(t, "host")
			w.restart(t, i, rapid.Bool().Draw(t, "cached"))
		},
		"": func(t *rapid.T) {
			for i, m := range w.copies {
				if v := m.View(); v != m.View() {
					t.Fatalf("copy %d builds its view twice", i)
				}
			}
		},
	}
}

// announce has a host say something of its own.
func (w *world) announce(t *rapid.T) {
	i, n, s := w.anyHost(t, "host"), anyID.Draw(t, "id"), anyName.Draw(t, "name")
	self := hostID(byte(i + 1))
	before, _ := w.copies[i].Head(self)
	note(w.truth[self], n, s)
	if _, err := w.copies[i].Append(self, w.lives[i], []Change{change(n, s)}); err != nil {
		t.Fatal(err)
	}
	if b, ok := w.copies[i].Since(self, w.lives[i], before.Seq); ok && before.Life == w.lives[i] {
		w.air = append(w.air, b.Split(rapid.SampledFrom([]int{1, 1300}).Draw(t, "limit"))...)
	}
}

// decide has a keeper that is not behind tell what the ledger decided.
func (w *world) decide(t *rapid.T) {
	i, prev := w.anyHost(t, "keeper"), w.decided
	if h, _ := w.copies[i].Head(cluster); h.Seq != prev {
		return
	}
	w.decided += uint64(rapid.IntRange(1, 4).Draw(t, "step"))
	var changes []Change
	for n := NetworkID(1); n <= 3; n++ {
		s := anyName.Draw(t, "name")
		note(w.truth[cluster], n, s)
		changes = append(changes, change(n, s))
	}
	records, err := RecordsOf(w.decided, changes)
	if err != nil {
		t.Fatal(err)
	}
	b := Batch{Origin: cluster, Life: 1, Prev: prev, Seq: w.decided, Records: records}
	w.apply(t, i, b)
	w.air = append(w.air, b)
}

// deliver brings a message that was sent at any time to any host.
func (w *world) deliver(t *rapid.T) {
	if len(w.air) == 0 {
		return
	}
	k := rapid.IntRange(0, len(w.air)-1).Draw(t, "which")
	b, err := DecodeBatch(AppendBatch(nil, w.air[k]))
	if err != nil {
		t.Fatal(err)
	}
	w.apply(t, w.anyHost(t, "to"), b)
}

// pull is one exchange, one page each, as a cut could leave it.
func (w *world) pull(t *rapid.T, to, from, limit int) {
	for _, p := range w.copies[to].Compare(w.copies[from].HeadsUnlike(w.copies[to].Digest())) {
		b, more, ok := w.copies[from].Answer(p, limit)
		if !ok {
			t.Fatal("a head without a log")
		}
		for b.Whole && more {
			p.After = b.LastKey()
			var next Batch
			next, more, _ = w.copies[from].Answer(p, limit)
			if b, ok = b.Join(next); !ok {
				t.Fatal("pages do not join")
			}
		}
		w.apply(t, to, b)
	}
}

func (w *world) restart(t *rapid.T, i int, cached bool) {
	self, fresh := hostID(byte(i+1)), NewMap(cluster)
	for _, id := range w.copies[i].Origins() {
		if cached && id != self {
			if err := fresh.LoadCache(w.copies[i].MarshalCache(id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if h, _ := w.copies[i].Head(cluster); !cached && h.Seq == w.decided && h.Seq > 0 {
		snap, _ := w.copies[i].Snapshot(cluster) // a keeper has the ledger on disk
		if _, err := fresh.Apply(snap); err != nil {
			t.Fatal(err)
		}
	}
	w.copies[i] = fresh
	w.lives[i]++
	var all []Change
	for n := NetworkID(1); n <= 6; n++ {
		if s := w.truth[self][n]; s != "" {
			all = append(all, change(n, s))
		}
	}
	if _, err := fresh.Append(self, w.lives[i], all); err != nil {
		t.Fatal(err)
	}
}

func names(m *Map, origin ID) map[NetworkID]string {
	out := map[NetworkID]string{}
	b, _ := m.Snapshot(origin)
	for _, r := range b.Records {
		noun, _ := Decode(r.Key, []byte(r.Value))
		out[noun.(Network).ID] = noun.(Network).Name
	}
	return out
}

// TestCopiesConverge: after any history, a few exchanges make all copies equal
// each other and the model, as far as anybody knows the ledger's log.
func TestCopiesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(3)
		t.Repeat(w.actions())
		for range 4 {
			for to := range w.copies {
				for from := range w.copies {
					for range 40 { // pages of one record each are no different
						w.pull(t, to, from, 1<<20)
					}
				}
			}
		}
		for i, m := range w.copies {
			if m.Digest() != w.copies[0].Digest() {
				t.Fatalf("copies 0 and %d differ: %v %v", i, w.copies[0].Heads(), m.Heads())
			}
			if diff := cmp.Diff(w.copies[0].View(), m.View(), compareAddrs); diff != "" {
				t.Fatalf("views 0 and %d differ: %s", i, diff)
			}
			for j := range w.copies {
				self := hostID(byte(j + 1))
				if diff := cmp.Diff(w.truth[self], names(m, self)); diff != "" {
					t.Fatalf("copy %d of host %d: %s", i, j, diff)
				}
			}
			if h, _ := m.Head(cluster); h.Seq == w.decided {
				if diff := cmp.Diff(w.truth[cluster], names(m, cluster)); diff != "" {
					t.Fatalf("copy %d of the ledger's log: %s", i, diff)
				}
			}
		}
	})
}
