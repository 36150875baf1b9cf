package netmap

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// Head says how far a copy of one origin's log reaches. Two copies with one Life
// and Seq hold the same facts; Sum proves it.
type Head struct {
	Origin ID
	Life   uint64
	Seq    uint64
	Sum    uint64 // of all live records, in any order
}

// Covers reports whether a copy with head h has nothing to learn from one with
// head other.
func (h Head) Covers(other Head) bool {
	return h.Life > other.Life || h.Life == other.Life && h.Seq >= other.Seq
}

func (h Head) hash() uint64 {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(h.Origin[:], h.Life), h.Seq)
	return sum64(binary.BigEndian.AppendUint64(b, h.Sum))
}

// Pull asks for the log of an origin after From. The answer is a whole batch when
// the log does not reach back to From or is of another life; that comes in pages,
// and After is the last key of the page before. Sum is that of the asker's copy: where a new
// life says what it says already, as after a restart, the answer does not repeat it.
type Pull struct {
	Origin ID
	Life   uint64
	From   uint64
	After  Key
	Sum    uint64
}

// digestBuckets is how many origins' hashes a digest tells apart: enough that a
// single difference is found by comparing 1/64 of the heads.
const digestBuckets = 64

// Digest is a summary of all heads in a size that does not depend on the size
// of the cluster. Equal copies have equal digests.
type Digest [digestBuckets]uint64

// toggle adds a head, or takes it out.
func (d *Digest) toggle(h Head) { d[bucketOf(h.Origin)] ^= h.hash() }

func bucketOf(origin ID) int { return int(origin[0]) % digestBuckets }

// AppendDigest writes a digest, 512 bytes.
func AppendDigest(b []byte, d Digest) []byte {
	for _, v := range d {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// DecodeDigest reads a digest; the error wraps ErrMalformed.
func DecodeDigest(buf []byte) (Digest, error) {
	var d Digest
	if len(buf) != 8*len(d) {
		return d, malformed("a digest of %d bytes", len(buf))
	}
	for i := range d {
		d[i] = binary.BigEndian.Uint64(buf[8*i:])
	}
	return d, nil
}

// MaxHeadBytes bounds the encoding of one head.
const MaxHeadBytes = 16 + 10 + 10 + 8

// AppendHeads writes heads, each at most MaxHeadBytes, and five bytes.
func AppendHeads(b []byte, heads []Head) []byte {
	b = appendUvarint(b, uint64(len(heads)))
	for _, h := range heads {
		b = appendUvarint(appendUvarint(append(b, h.Origin[:]...), h.Life), h.Seq)
		b = binary.BigEndian.AppendUint64(b, h.Sum)
	}
	return b
}

// DecodeHeads reads what AppendHeads wrote; the error wraps ErrMalformed.
func DecodeHeads(buf []byte) ([]Head, error) {
	r := reader{b: buf}
	n := r.count(len(buf)/26 + 1) // a head takes at least 26 bytes
	heads := make([]Head, 0, n)
	for range n {
		h := Head{Origin: r.id(), Life: r.counter(), Seq: r.counter()}
		if sum := r.take(8); sum != nil {
			h.Sum = binary.BigEndian.Uint64(sum)
		}
		heads = append(heads, h)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes after the heads", len(r.b))
	}
	return heads, r.err
}

func appendPull(b []byte, p Pull) []byte {
	b = appendUvarint(appendUvarint(append(b, p.Origin[:]...), p.Life), p.From)
	return binary.BigEndian.AppendUint64(appendKey(b, p.After), p.Sum)
}

// minPull is the least that a pull takes.
const minPull = 16 + 1 + 1 + 2 + 8

func (r *reader) pull() Pull {
	p := Pull{Origin: r.id(), Life: r.counter(), From: r.counter()}
	p.After = r.key()
	if sum := r.take(8); sum != nil {
		p.Sum = binary.BigEndian.Uint64(sum)
	}
	return p
}

func sum64(b []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(b) // never fails (hash.Hash)
	x := h.Sum64()    // finished as in SplitMix64, since sums are combined by XOR
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func recordSum(key Key, value string) uint64 {
	return sum64(append(appendKey(make([]byte, 0, 8+key.size()+len(value)), key), value...))
}

func sortHeads(heads []Head) []Head {
	slices.SortFunc(heads, func(a, b Head) int { return a.Origin.Compare(b.Origin) })
	return heads
}
