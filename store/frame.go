package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The journal is a sequence of pages. A frame is one group of changes: it begins on a page
// boundary and takes as many pages as it needs, so that no page with a committed change is
// ever written again. Its head, in big endian:
//
//	0  magic
//	4  CRC-32C of all that follows, up to the payload's end
//	8  length of the payload
//	12 number of the frame in its generation, from 0
//	16 generation
//	24 payload
const (
	pageSize   = 4096
	frameMagic = 0x77656674 // "weft"
	frameHead  = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is the content of one write to the journal.
type frame struct {
	generation uint64
	seq        uint32
	payload    []byte
}

func pagesFor(payload int) int { return (frameHead + payload + pageSize - 1) / pageSize }

// encode returns the frame padded to whole pages, for a single write.
func (f frame) encode() []byte {
	b := make([]byte, pagesFor(len(f.payload))*pageSize)
	end := frameHead + copy(b[frameHead:], f.payload)
	binary.BigEndian.PutUint32(b[8:], uint32(len(f.payload)))
	binary.BigEndian.PutUint32(b[12:], f.seq)
	binary.BigEndian.PutUint64(b[16:], f.generation)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:end], castagnoli))
	binary.BigEndian.PutUint32(b, frameMagic)
	return b
}

// decodeFrame reads the frame at the beginning of some pages. It returns false if there is
// none, or only a part of one.
func decodeFrame(b []byte) (frame, bool) {
	if len(b) < frameHead || binary.BigEndian.Uint32(b) != frameMagic {
		return frame{}, false
	}
	n := uint64(binary.BigEndian.Uint32(b[8:]))
	if n > uint64(len(b)-frameHead) {
		return frame{}, false
	}
	end := frameHead + int(n)
	if crc32.Checksum(b[8:end], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return frame{}, false
	}
	return frame{
		generation: binary.BigEndian.Uint64(b[16:]),
		seq:        binary.BigEndian.Uint32(b[12:]),
		payload:    b[frameHead:end],
	}, true
}

// scan reads a journal: the changes of this generation in order, and the page and
// number that the next frame gets.
//
// The journal ends at the first page that does not hold the next frame: it is of an older
// generation, was never written, or belongs to a write that was cut short, of which no
// commit returned. Nothing is written after such a page. So a frame of this generation
// further on means that the pages before it were damaged later, and a frame of a later
// generation means that the journal is newer than the state file. Both are refused, as
// addresses would be lost.
func scan(b []byte, generation uint64) (ops []op, page int, seq uint32, err error) {
	for page*pageSize < len(b) {
		f, ok := decodeFrame(b[page*pageSize:])
		if !ok || f.generation != generation || f.seq != seq {
			break
		}
		more, err := decodeOps(f.payload)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("%w: frame %d on page %d: %w", errBadRecord, seq, page, err)
		}
		ops = append(ops, more...)
		page += pagesFor(len(f.payload))
		seq++
	}
	for later := page; later*pageSize < len(b); later++ {
		f, ok := decodeFrame(b[later*pageSize:])
		switch {
		case !ok || f.generation < generation:
		case f.generation > generation:
			return nil, 0, 0, fmt.Errorf("%w: page %d is of generation %d and the state file of %d, an older one", errBadRecord, later, f.generation, generation)
		default:
			return nil, 0, 0, fmt.Errorf("%w: page %d cannot be read, and page %d, written after it, can", errBadRecord, page, later)
		}
	}
	return ops, page, seq, nil
}

// op sets a key, or deletes it if the value is nil.
type op struct {
	bucket, key string
	value       []byte
}

const (
	opSet    = 1
	opDelete = 2
)

var errBadOps = errors.New("its changes cannot be read")

// encodeOps writes kind, bucket, key and value of each, each text with its length in
// front.
func encodeOps(ops []op) []byte {
	var b []byte
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, o := range ops {
		kind := byte(opSet)
		if o.value == nil {
			kind = opDelete
		}
		b = append(b, kind)
		text(o.bucket)
		text(o.key)
		if kind == opSet {
			b = append(binary.AppendUvarint(b, uint64(len(o.value))), o.value...)
		}
	}
	return b
}

func decodeOps(b []byte) (ops []op, err error) {
	text := func() []byte {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			err = errBadOps
			return nil
		}
		s := b[size : size+int(n)]
		b = b[size+int(n):]
		return s
	}
	for len(b) > 0 && err == nil {
		kind := b[0]
		b = b[1:]
		o := op{bucket: string(text()), key: string(text())}
		switch {
		case kind == opSet:
			o.value = append([]byte{}, text()...)
		case kind != opDelete:
			return nil, errBadOps
		}
		if o.bucket == "" || o.key == "" {
			return nil, errBadOps
		}
		ops = append(ops, o)
	}
	return ops, err
}

// ops splits a change: first the keys that it sets, then those that it deletes.
func (c change) ops() []op {
	out := make([]op, 0, len(c.set)+len(c.del))
	for k, v := range c.set {
		out = append(out, op{string(c.bucket), k, append([]byte{}, v...)})
	}
	for _, k := range c.del {
		if k != "" {
			out = append(out, op{string(c.bucket), k, nil})
		}
	}
	return out
}

// journaled has the changes in the journal that are not in the state file yet, by bucket
// and key. A nil value is a deletion.
type journaled map[string]map[string][]byte

func (u journaled) take(ops []op) {
	for _, o := range ops {
		if u[o.bucket] == nil {
			u[o.bucket] = map[string][]byte{}
		}
		u[o.bucket][o.key] = o.value
	}
}

// over applies them to a bucket as the state file has it.
func (u journaled) over(bucket string, got map[string][]byte) {
	for k, v := range u[bucket] {
		if v == nil {
			delete(got, k)
		} else {
			got[k] = bytes.Clone(v)
		}
	}
}
