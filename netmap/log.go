package netmap

import (
	"cmp"
	"maps"
	"slices"
)

// keptTombs is how many tombstones a log keeps at least. Correctness does not depend on
// it: a host that is further behind than the floor gets a snapshot.
const keptTombs = 1024

// originLog is a copy of one origin's log: the last value of each key.
// Invariants: a key changed last after floor has its entry, alive or tomb; no
// entry is beyond seq; sum is the XOR of recordSum over the live entries.
type originLog struct {
	life    uint64
	seq     uint64
	floor   uint64
	sum     uint64
	tombs   int
	bytes   int // that the entries take, about
	entries map[Key]entry

	// note is told of each entry that is about to take the place of another one; a tomb stands
	// for none. It returns the noun to keep with the new one.
	note func(k Key, old, now entry) any
}

type entry struct {
	seq   uint64
	tomb  bool
	value string
	noun  any // decoded value, or what the log's note keeps in its place; nil for unknown kinds
}

func (e entry) record(k Key) Record { return Record{Seq: e.seq, Key: k, Tomb: e.tomb, Value: e.value} }

// memory is about what a record takes as an entry, in bytes.
func (r Record) memory() int { return 2*(r.Key.size()+len(r.Value)) + entryBytes }

func newLog(note func(k Key, old, now entry) any) *originLog {
	return &originLog{entries: map[Key]entry{}, note: note}
}

// put stores a record and reports whether a live value changed.
func (l *originLog) put(r Record) (changed bool, err error) {
	old, had := l.entries[r.Key]
	e := entry{seq: r.Seq, tomb: r.Tomb}
	if !had {
		old.tomb = true
	}
	alive := !old.tomb
	changed = alive == e.tomb || alive && old.value != r.Value
	if !r.Tomb {
		if e.value, e.noun = r.Value, r.noun; e.noun == nil {
			if e.noun, err = decode(r.Key, []byte(r.Value), r.Value); err != nil {
				return false, err
			}
		}
		l.sum ^= recordSum(r.Key, r.Value)
	}
	if !changed {
		e.value = old.value // the same memory
	}
	e.noun = l.note(r.Key, old, e)
	if had {
		l.forget(r.Key, old)
	}
	if e.tomb {
		l.tombs++
	}
	l.entries[l.shared(r.Key, e)] = e
	l.bytes += r.memory()
	return changed, nil
}

// shared returns the key of an entry with the memory of the endpoint's id, if one is known.
func (l *originLog) shared(k Key, e entry) Key {
	if k.Kind == KindName {
		e = l.entries[Key{KindEndpoint, k.ID}]
	}
	if a, is := e.noun.(*announced); is {
		k.ID = string(a.ID)
	}
	return k
}

// forget removes an entry and its part of the sums.
func (l *originLog) forget(k Key, e entry) {
	l.bytes -= e.record(k).memory()
	if e.tomb {
		l.tombs--
	} else {
		l.sum ^= recordSum(k, e.value)
	}
	delete(l.entries, k)
}

// extend applies a batch that continues the log. A record that is not newer than
// what is known changes nothing, so a batch may come twice and in any order.
func (l *originLog) extend(b Batch) (changed bool, err error) {
	for _, r := range b.Records {
		if old, ok := l.entries[r.Key]; ok && old.seq >= r.Seq || r.Seq <= l.floor {
			continue
		}
		c, err := l.put(r)
		if err != nil {
			return changed, err
		}
		changed = changed || c
	}
	l.seq = max(l.seq, b.Seq)
	l.trim()
	return changed, nil
}

// replace applies a whole batch as a difference, so that what is equal before and
// after is never gone in between.
func (l *originLog) replace(b Batch) (changed bool, err error) {
	in := make(map[Key]bool, len(b.Records))
	for _, r := range b.Records {
		in[r.Key] = true
		r.Seq = min(r.Seq, b.Seq) // a later page may be ahead of the first, see Join
		c, err := l.put(r)
		if err != nil {
			return changed, err
		}
		changed = changed || c
	}
	for k, e := range l.entries {
		if !in[k] {
			changed = changed || !e.tomb
			l.note(k, e, entry{tomb: true})
			l.forget(k, e)
		}
	}
	l.life, l.seq, l.floor = b.Life, b.Seq, b.Seq
	return changed, nil
}

// trim drops the oldest tombstones once there are twice as many as are kept, and
// raises the floor above them.
func (l *originLog) trim() {
	if l.tombs < 2*keptTombs {
		return
	}
	var tombs []Record
	for k, e := range l.entries {
		if e.tomb {
			tombs = append(tombs, e.record(k))
		}
	}
	slices.SortFunc(tombs, bySeq)
	for _, t := range tombs[:len(tombs)-keptTombs] {
		l.floor = max(l.floor, t.Seq)
		l.forget(t.Key, l.entries[t.Key])
	}
}

// since lists what changed after seq, in order of Seq.
func (l *originLog) since(seq uint64) []Record {
	var out []Record
	for k, e := range l.entries {
		if e.seq > seq {
			out = append(out, e.record(k))
		}
	}
	slices.SortFunc(out, bySeq)
	return out
}

// live lists the live records in order of Key.
func (l *originLog) live() []Record {
	out := make([]Record, 0, len(l.entries)-l.tombs)
	for _, k := range slices.SortedFunc(maps.Keys(l.entries), Key.Compare) {
		if e := l.entries[k]; !e.tomb {
			out = append(out, e.record(k))
		}
	}
	return out
}

func bySeq(a, b Record) int {
	if c := cmp.Compare(a.Seq, b.Seq); c != 0 {
		return c
	}
	return a.Key.Compare(b.Key)
}
