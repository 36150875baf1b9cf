package netmap

import (
	"maps"
	"slices"
)

// maxOrigins bounds how many logs a Map holds, however many origins are invented.
const maxOrigins = 1 << 14

// Bounds of the memory that logs of hosts take, in bytes: 60,000 endpoints and more of one
// host. What the ledger does not know as a host may be anybody's: such logs share a limit,
// which newcomers need for the moment until their admission is known here.
const (
	maxLogBytes     = 32 << 20
	maxUnknownBytes = 16 << 20
	entryBytes      = 200 // of an entry without its key and value
)

// Map is one host's copy of all facts: a log per origin. The origins are the hosts, each
// the only writer of its own log, and the cluster itself, whose log has the decisions of
// the ledger, with raft indexes as sequence numbers.
//
// A log is identified by its life: the start number of the host, the generation
// of the ledger. A greater life wins and takes the place of the smaller one by a
// snapshot that is applied as a difference, so the restart of a host that says
// the same things again changes nothing. Within a life the greater Seq wins.
// Hence copies never go backwards, and equal heads mean equal facts.
//
// Each batch changes the view as far as its records do: see draft.
//
// A Map is not safe for concurrent use; the Views that it makes are.
type Map struct {
	cluster ClusterID
	logs    map[ID]*originLog
	digest  Digest // of the logs
	view    *View
	next    draft // of the view after the next change
}

// NewMap makes an empty copy. A zero cluster is that of a host not admitted yet:
// it keeps the ledger's log and does not use it until SetCluster.
func NewMap(cluster ClusterID) *Map {
	return &Map{cluster: cluster, logs: map[ID]*originLog{}, view: &View{Cluster: cluster}, next: newDraft(cluster)}
}

// SetCluster sets which origin is the ledger.
func (m *Map) SetCluster(id ClusterID) {
	m.cluster = id
	m.redraft()
	if l := m.logs[id]; l != nil {
		m.dropRemoved(l.live())
	}
	m.settle()
}

// Cluster is the origin that is the ledger.
func (m *Map) Cluster() ClusterID { return m.cluster }

// Effect says what a batch did.
type Effect struct {
	Changed  bool  // the facts are others than before; View.Decided is none
	Advanced bool  // the log reaches further than before
	Gap      *Pull // the batch was not used: this is missing before it
}

// Apply applies a batch. Batches may come in any order and any number of times. Apply
// fails for malformed records (ErrMalformed) and for more origins than a cluster has;
// what it applied before the failure stays.
func (m *Map) Apply(b Batch) (Effect, error) {
	if err := m.fits(b); err != nil {
		return Effect{}, err
	}
	return m.apply(b)
}

func (m *Map) apply(b Batch) (Effect, error) {
	if err := b.check(); err != nil {
		return Effect{}, err
	}
	if m.Removed(b.Origin) {
		return Effect{}, nil
	}
	l := m.logs[b.Origin]
	if l == nil {
		if len(m.logs) >= maxOrigins {
			return Effect{}, malformed("origin %s is one more than the limit of %d", b.Origin, maxOrigins)
		}
		l = newLog(m.noteFrom(b.Origin))
	}
	switch {
	case b.Life < l.life, b.Whole && b.Life == l.life && b.Seq < l.seq:
		return Effect{}, nil
	case b.Whole:
		return m.applyTo(b, l, l.replace)
	case b.Life > l.life && (l.life != 0 || b.Prev != 0):
		return Effect{Gap: &Pull{Origin: b.Origin, Life: b.Life}}, nil
	case b.Life == l.life && b.Prev > l.seq:
		return Effect{Gap: &Pull{Origin: b.Origin, Life: b.Life, From: l.seq}}, nil
	}
	l.life = b.Life
	return m.applyTo(b, l, l.extend)
}

// fits refuses a batch that would make a host's log too large. Records that it repeats
// count twice, so a log of half the limit is always accepted.
func (m *Map) fits(b Batch) error {
	if b.Origin == m.cluster {
		return nil
	}
	had, more := 0, 0
	if l := m.logs[b.Origin]; l != nil && !b.Whole {
		had = l.bytes
	}
	for _, r := range b.Records {
		more += r.memory()
	}
	if had+more > maxLogBytes {
		return malformed("the facts of host %s take more than %d MiB", b.Origin, maxLogBytes>>20)
	}
	if m.admitted(b.Origin) || m.cluster.IsZero() {
		return nil
	}
	for id, other := range m.logs {
		if id != m.cluster && !m.admitted(id) && (id != b.Origin || !b.Whole) {
			more += other.bytes
		}
	}
	if more > maxUnknownBytes {
		return malformed("the facts of hosts that the ledger does not know, %s among them, take more than %d MiB", b.Origin, maxUnknownBytes>>20)
	}
	return nil
}

// AdmittedHosts are the hosts that the ledger knows and has not removed; nil if nothing was
// heard of it.
func (m *Map) AdmittedHosts() map[HostID]struct{} {
	if m.logs[m.cluster] == nil {
		return nil
	}
	out := map[HostID]struct{}{}
	for _, h := range m.view.Hosts {
		if h.IsMember() {
			out[h.ID] = struct{}{}
		}
	}
	return out
}

// admitted reports whether the ledger knows a host.
func (m *Map) admitted(host ID) bool {
	l := m.logs[m.cluster]
	return l != nil && l.entries[HostEntryKey(host)].noun != nil
}

// applyTo applies a batch to a log and updates what depends on the log.
func (m *Map) applyTo(b Batch, l *originLog, apply func(Batch) (bool, error)) (Effect, error) {
	before, known := m.Head(b.Origin)
	if known {
		m.digest.toggle(before)
	}
	m.logs[b.Origin] = l
	changed, err := apply(b)
	after, _ := m.Head(b.Origin)
	m.digest.toggle(after)
	if b.Origin == m.cluster {
		changed = m.dropRemoved(b.Records) || changed
	}
	changed = m.settle() || changed
	return Effect{Changed: changed, Advanced: !before.Covers(after)}, err
}

// Append adds changes, at most one per key, to a log that this host writes: the
// next Seq for each, in the order given, without those that change nothing. The first call of a life
// says everything there is: it takes the place of what an earlier life said.
func (m *Map) Append(origin ID, life uint64, changes []Change) (Effect, error) {
	head, _ := m.Head(origin)
	b := Batch{Origin: origin, Life: life, Prev: head.Seq, Seq: head.Seq}
	if life > head.Life {
		b.Whole, b.Prev, b.Seq = true, 0, 0
	}
	for _, c := range changes {
		r, err := c.record(b.Seq + 1)
		if err != nil {
			return Effect{}, err
		}
		if r.Tomb && b.Whole || !b.Whole && !m.differs(origin, r) {
			continue
		}
		b.Records, b.Seq = append(b.Records, r), r.Seq
	}
	if b.Whole && b.Seq == 0 {
		b.Seq = 1 // that a host has no facts is a fact too
	}
	return m.apply(b) // without a look at fits: these are this host's own facts
}

func (c Change) record(seq uint64) (Record, error) {
	if c.Value == nil {
		return Record{Seq: seq, Key: c.Key, Tomb: true}, nil
	}
	value, noun, err := encode(c.Key, c.Value)
	return Record{Seq: seq, Key: c.Key, Value: value, noun: noun}, err
}

// RecordsOf encodes changes that all happened at one Seq, such as those of one
// ledger entry. The error wraps ErrMalformed.
func RecordsOf(seq uint64, changes []Change) ([]Record, error) {
	out := make([]Record, 0, len(changes))
	for _, c := range changes {
		r, err := c.record(seq)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (m *Map) differs(origin ID, r Record) bool {
	var old entry
	if l := m.logs[origin]; l != nil {
		old = l.entries[r.Key]
	}
	known := old.seq != 0 && !old.tomb
	return known == r.Tomb || known && old.value != r.Value
}

// Removed reports whether the ledger removed this host for good. Every host drops its log
// and does not accept it again.
func (m *Map) Removed(host HostID) bool {
	l := m.logs[m.cluster]
	if l == nil || m.cluster.IsZero() {
		return false
	}
	entry, _ := l.entries[HostEntryKey(host)].noun.(HostEntry)
	return entry.Removed
}

func (m *Map) dropRemoved(records []Record) (dropped bool) {
	for _, r := range records {
		if r.Key.Kind != KindHostEntry || len(r.Key.ID) != len(ID{}) {
			continue
		}
		if id := ID([]byte(r.Key.ID)); m.logs[id] != nil && id != m.cluster && m.Removed(id) {
			m.drop(id)
			dropped = true
		}
	}
	return dropped
}

// drop forgets the log of a host.
func (m *Map) drop(id HostID) {
	head, _ := m.Head(id)
	m.digest.toggle(head)
	for _, e := range m.logs[id].entries {
		if a, is := e.noun.(*announced); is {
			m.next.withdraw(a)
		}
	}
	delete(m.logs, id)
	m.next.touched[id] = struct{}{}
}

// Origins lists whose logs are known, sorted.
func (m *Map) Origins() []ID { return slices.SortedFunc(maps.Keys(m.logs), ID.Compare) }
