package netmap

import (
	"slices"
)

// Record is one entry of an origin's log: the last value of one key.
type Record struct {
	Seq   uint64 // place in the origin's log; several records of one ledger entry share it
	Key   Key
	Tomb  bool // the key is gone; Value is empty
	Value string

	noun any // that Value decodes to, where that is known already
}

// Batch has everything that changed in one origin's log after Prev up to Seq, with the
// last value of each key. With Whole it is a snapshot: all records of the origin at Seq;
// Prev is 0, and records that are not in it are gone.
type Batch struct {
	Origin  ID     // a host, or the cluster for the ledger
	Life    uint64 // start number of the host, generation of the ledger
	Prev    uint64
	Seq     uint64
	Whole   bool
	Records []Record
}

const (
	// batchOverhead and recordOverhead bound the bytes that AppendBatch adds to
	// keys and values, for cutting a log into pieces of a size.
	batchOverhead  = 16 + 3*10 + 1 + 5
	recordOverhead = 1 + 2 + 10 + 1 + 3
)

func (r Record) size() int { return recordOverhead + r.Key.size() + len(r.Value) }

// AppendBatch writes a batch to b. The records must be within the bounds that
// Encode keeps to.
func AppendBatch(b []byte, batch Batch) []byte {
	b = append(b, batch.Origin[:]...)
	b = appendUvarint(appendUvarint(appendUvarint(b, batch.Life), batch.Prev), batch.Seq)
	b = appendBool(b, batch.Whole)
	b = appendUvarint(b, uint64(len(batch.Records)))
	for _, r := range batch.Records {
		b = appendRecord(b, r)
	}
	return b
}

func appendRecord(b []byte, r Record) []byte {
	b = appendBool(appendUvarint(appendKey(b, r.Key), r.Seq), r.Tomb)
	if r.Tomb {
		return b
	}
	return appendString(b, r.Value)
}

// DecodeBatch reads a batch; nothing in it points into buf. Values of known
// kinds are checked. The error wraps ErrMalformed.
func DecodeBatch(buf []byte) (Batch, error) {
	r := reader{b: buf}
	batch := r.batch()
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes after a batch", len(r.b))
	}
	if r.err != nil {
		return Batch{}, r.err
	}
	return batch, nil
}

func (b Batch) check() error {
	if b.Origin.IsZero() || b.Life == 0 || b.Seq < b.Prev || b.Whole && b.Prev != 0 {
		return malformed("a batch of origin %s, life %d, from %d to %d", b.Origin.Short(), b.Life, b.Prev, b.Seq)
	}
	return nil
}

func (r *reader) batch() Batch {
	b := Batch{Origin: r.id(), Life: r.counter(), Prev: r.counter(), Seq: r.counter(), Whole: r.bool()}
	if err := b.check(); err != nil && r.err == nil {
		r.b, r.err = nil, err
	}
	n := r.count(len(r.b)/4 + 1) // a record takes at least four bytes
	if n > 0 {
		b.Records = make([]Record, 0, n)
	}
	for range n {
		rec := r.record()
		if rec.Seq <= b.Prev && !b.Whole || rec.Seq > b.Seq || rec.Tomb && b.Whole {
			r.fail("%s at %d does not belong into a batch from %d to %d", rec.Key, rec.Seq, b.Prev, b.Seq)
		}
		if r.err != nil {
			return Batch{}
		}
		b.Records = append(b.Records, rec)
	}
	return b
}

func (r *reader) record() Record {
	rec := Record{Key: r.key(), Seq: r.uvarint(), Tomb: r.bool()}
	if r.err != nil || rec.Tomb {
		return rec
	}
	value := r.bytes(MaxValueBytes)
	rec.Value = string(value)
	if r.err != nil {
		return rec
	}
	var err error
	if rec.noun, err = decode(rec.Key, value, rec.Value); err != nil {
		r.fail("%s: %v", rec.Key, err)
	}
	return rec
}

// Split cuts a batch that is sorted by Seq into batches whose encoding takes at
// most limit bytes. Records with one Seq stay together, since a receiver that
// has half of them would believe to have all. So a piece may be larger than limit; the
// caller has to check.
// A whole batch is never cut.
func (b Batch) Split(limit int) []Batch {
	if b.Whole {
		return []Batch{b}
	}
	var out []Batch
	piece, size := b, batchOverhead
	piece.Records = nil
	for group := range groups(b.Records) {
		n := 0
		for _, r := range group {
			n += r.size()
		}
		if len(piece.Records) > 0 && size+n > limit {
			piece.Seq = piece.Records[len(piece.Records)-1].Seq
			out = append(out, piece)
			piece, size = Batch{Origin: b.Origin, Life: b.Life, Prev: piece.Seq}, batchOverhead
		}
		piece.Records, size = append(piece.Records, group...), size+n
	}
	piece.Seq = b.Seq
	return append(out, piece)
}

// groups yields the runs of records that share one Seq.
func groups(records []Record) func(func([]Record) bool) {
	return func(yield func([]Record) bool) {
		for len(records) > 0 {
			n := slices.IndexFunc(records, func(r Record) bool { return r.Seq != records[0].Seq })
			if n < 0 {
				n = len(records)
			}
			if !yield(records[:n]) {
				return
			}
			records = records[n:]
		}
	}
}
