package netmap

import (
	"maps"
	"slices"
)

// MaxPulls is how many logs one request may ask for.
const MaxPulls = 256

// Part is what an answer has of one log.
type Part struct {
	Batch Batch
	// More says that there is more to ask for: after the batch's last key if it is whole, else
	// after its Seq.
	More bool
	// Same says that the asker's copy of an earlier life has the same live records. Seqs are
	// theirs in order of Key; the batch has none.
	Same bool
	Seqs []uint64
}

// AppendPulls writes a request for several logs, at most MaxPulls.
func AppendPulls(b []byte, pulls []Pull) []byte {
	b = appendUvarint(b, uint64(len(pulls)))
	for _, p := range pulls {
		b = appendPull(b, p)
	}
	return b
}

// DecodePulls reads what AppendPulls wrote; the error wraps ErrMalformed.
func DecodePulls(buf []byte) ([]Pull, error) {
	r := reader{b: buf}
	n := r.count(min(MaxPulls, len(buf)/minPull+1))
	pulls := make([]Pull, 0, n)
	for range n {
		pulls = append(pulls, r.pull())
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes after %d pulls", len(r.b), n)
	}
	return pulls, r.err
}

// The kinds of a part in an answer.
const (
	partLast byte = iota
	partMore
	partSame
)

// AppendAnswer writes an answer to pulls of about limit bytes. It leaves out logs of which
// nothing is known, and those that it has no room for: then its first byte is 1.
func (m *Map) AppendAnswer(b []byte, pulls []Pull, limit int) []byte {
	start := len(b)
	b = append(b, 0)
	for _, p := range pulls {
		used := len(b) - start
		if used > limit/2 {
			b[start] = 1
			break
		}
		if seqs, ok := m.unchanged(p); ok {
			b = appendSame(b, m.logs[p.Origin], p.Origin, seqs)
			continue
		}
		batch, more, ok := m.Answer(p, limit-used)
		if !ok {
			continue
		}
		kind := partLast
		if more {
			kind = partMore
		}
		b = AppendBatch(append(b, kind), batch)
	}
	return b
}

// unchanged reports whether the asker's copy of another life has the live records of this
// one, and returns their Seqs in order of Key.
func (m *Map) unchanged(p Pull) ([]uint64, bool) {
	l := m.logs[p.Origin]
	if l == nil || p.Sum == 0 || p.Sum != l.sum || p.Life == l.life && p.From >= l.floor || p.After != (Key{}) {
		return nil, false
	}
	seqs := make([]uint64, 0, len(l.entries)-l.tombs)
	for _, k := range slices.SortedFunc(maps.Keys(l.entries), Key.Compare) {
		if e := l.entries[k]; !e.tomb {
			seqs = append(seqs, e.seq)
		}
	}
	return seqs, true
}

func appendSame(b []byte, l *originLog, origin ID, seqs []uint64) []byte {
	b = append(append(b, partSame), origin[:]...)
	b = appendUvarint(appendUvarint(appendUvarint(b, l.life), l.seq), uint64(len(seqs)))
	for _, s := range seqs {
		b = appendUvarint(b, s)
	}
	return b
}

// DecodeAnswer reads what AppendAnswer wrote: the parts, and whether there was no room for
// all. The error wraps ErrMalformed.
func DecodeAnswer(buf []byte) (parts []Part, full bool, err error) {
	r := reader{b: buf}
	full = r.bool()
	for r.err == nil && len(r.b) > 0 {
		if len(parts) == MaxPulls {
			r.fail("more than %d parts", MaxPulls)
			break
		}
		switch kind := r.byte(); kind {
		case partLast, partMore:
			parts = append(parts, Part{Batch: r.batch(), More: kind == partMore})
		case partSame:
			parts = append(parts, r.same())
		default:
			r.fail("a part of kind %d", kind)
		}
	}
	if r.err != nil {
		return nil, false, r.err
	}
	return parts, full, nil
}

func (r *reader) same() Part {
	b := Batch{Origin: r.id(), Life: r.counter(), Seq: r.counter(), Whole: true}
	n := r.count(len(r.b))
	if err := b.check(); err != nil && r.err == nil {
		r.b, r.err = nil, err
	}
	seqs := make([]uint64, 0, n)
	for range n {
		seq := r.counter()
		if seq > b.Seq {
			r.fail("a record at %d of a log that ends at %d", seq, b.Seq)
		}
		if r.err != nil {
			return Part{}
		}
		seqs = append(seqs, seq)
	}
	return Part{Batch: b, Same: true, Seqs: seqs}
}

// Expand completes a part that is the same from this copy, of which the pull had the sum. It
// returns false if the copy has changed since: ask again.
func (m *Map) Expand(p Part, sum uint64) (Batch, bool) {
	if !p.Same {
		return p.Batch, true
	}
	l := m.logs[p.Batch.Origin]
	if l == nil || l.sum != sum || len(l.entries)-l.tombs != len(p.Seqs) {
		return Batch{}, false
	}
	b := p.Batch
	b.Records = l.live()
	for i, seq := range p.Seqs {
		b.Records[i].Seq = seq
	}
	return b, true
}
