package netmap

// Head is how far the copy of an origin's log reaches, false if there is none.
func (m *Map) Head(origin ID) (Head, bool) {
	l := m.logs[origin]
	if l == nil {
		return Head{Origin: origin}, false
	}
	return Head{Origin: origin, Life: l.life, Seq: l.seq, Sum: l.sum}, true
}

// Heads lists how far all copies reach, sorted by origin.
func (m *Map) Heads() []Head {
	out := make([]Head, 0, len(m.logs))
	for id := range m.logs {
		h, _ := m.Head(id)
		out = append(out, h)
	}
	return sortHeads(out)
}

// Digest summarises Heads.
func (m *Map) Digest() Digest { return m.digest }

// HeadsUnlike lists the heads in those buckets in which another copy's digest
// differs: where it holds more, less or something else.
func (m *Map) HeadsUnlike(other Digest) []Head {
	mine := m.Digest()
	var out []Head
	for id := range m.logs {
		if b := bucketOf(id); mine[b] != other[b] {
			h, _ := m.Head(id)
			out = append(out, h)
		}
	}
	return sortHeads(out)
}

// Compare says what to pull from a copy that reaches as far as the given heads.
func (m *Map) Compare(heads []Head) []Pull {
	var out []Pull
	for _, h := range heads {
		if p, behind := m.lacks(h); behind {
			out = append(out, p)
		}
	}
	return out
}

func (m *Map) lacks(h Head) (Pull, bool) {
	mine, _ := m.Head(h.Origin)
	if h.Origin.IsZero() || mine.Covers(h) || m.Removed(h.Origin) {
		return Pull{}, false
	}
	p := Pull{Origin: h.Origin, Life: h.Life, Sum: mine.Sum}
	if mine.Life == h.Life {
		p.From = mine.Seq
	}
	return p, true
}

// Diverged lists the heads that are as far as ours and hold something else:
// possible only when two writers shared one identity (a clone) or by a bug. The
// cure is a snapshot from the origin itself.
func (m *Map) Diverged(heads []Head) []Pull {
	var out []Pull
	for _, h := range heads {
		mine, ok := m.Head(h.Origin)
		if ok && mine.Life == h.Life && mine.Seq == h.Seq && mine.Sum != h.Sum {
			out = append(out, Pull{Origin: h.Origin})
		}
	}
	return out
}

// Since is what changed in an origin's log after seq of one life, sorted by Seq.
// False if the copy does not reach back that far: then only Snapshot helps.
func (m *Map) Since(origin ID, life, seq uint64) (Batch, bool) {
	l := m.logs[origin]
	if l == nil || l.life != life || seq < l.floor {
		return Batch{}, false
	}
	seq = min(seq, l.seq)
	return Batch{Origin: origin, Life: life, Prev: seq, Seq: l.seq, Records: l.since(seq)}, true
}

// Snapshot is everything an origin has to say, sorted by key.
func (m *Map) Snapshot(origin ID) (Batch, bool) {
	l := m.logs[origin]
	if l == nil {
		return Batch{}, false
	}
	return Batch{Origin: origin, Life: l.life, Seq: l.seq, Whole: true, Records: l.live()}, true
}

// Answer serves a pull in a batch of about limit bytes. More says that there is
// more to ask for: after the batch's last key if it is whole, else after its
// Seq. False if nothing is known of the origin.
func (m *Map) Answer(p Pull, limit int) (b Batch, more, ok bool) {
	if p.After == (Key{}) {
		if b, ok := m.Since(p.Origin, p.Life, p.From); ok {
			pieces := b.Split(limit)
			return pieces[0], len(pieces) > 1, true
		}
	}
	if b, ok = m.Snapshot(p.Origin); !ok {
		return Batch{}, false, false
	}
	b.Records, more = page(b.Records, p.After, limit)
	return b, more, true
}

// page cuts out what comes after a key, at least one record and about limit bytes.
func page(records []Record, after Key, limit int) (out []Record, more bool) {
	size := batchOverhead
	for _, r := range records {
		if r.Key.Compare(after) <= 0 {
			continue
		}
		if size += r.size(); size > limit && len(out) > 0 {
			return out, true
		}
		out = append(out, r)
	}
	return out, false
}

// Join puts the next page of a snapshot behind the first. False if the origin
// started anew in between: begin again. The pages may be of different moments:
// the result reaches only as far as the first, and what came later is pulled
// after it like any other change.
func (b Batch) Join(next Batch) (Batch, bool) {
	if !b.Whole || !next.Whole || b.Origin != next.Origin || b.Life != next.Life || next.Seq < b.Seq {
		return Batch{}, false
	}
	b.Records = append(b.Records, next.Records...)
	return b, true
}

// LastKey is the key to ask for the next page with.
func (b Batch) LastKey() Key {
	if len(b.Records) == 0 {
		return Key{}
	}
	return b.Records[len(b.Records)-1].Key
}

// cacheFormat is the first byte of what MarshalCache writes.
const cacheFormat = 1

// MarshalCache writes an origin's log for the disk; nil if nothing is known.
func (m *Map) MarshalCache(origin ID) []byte {
	b, ok := m.Snapshot(origin)
	if !ok {
		return nil
	}
	return AppendBatch([]byte{cacheFormat}, b)
}

// LoadCache takes in what MarshalCache wrote in an earlier start, unless
// something newer is known already. The error wraps ErrMalformed.
func (m *Map) LoadCache(buf []byte) error {
	if len(buf) == 0 || buf[0] != cacheFormat {
		return malformed("a cached log of a format other than %d", cacheFormat)
	}
	b, err := DecodeBatch(buf[1:])
	if err != nil {
		return err
	}
	_, err = m.Apply(b)
	return err
}
