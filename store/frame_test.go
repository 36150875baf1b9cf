package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// groups are changes of a few bytes and of some pages.
func groups() (out [][]op) {
	for i, size := range []int{10, 4000, 4096, 9000, 0, 17} {
		out = append(out, []op{
			{"ipam", fmt.Sprintf("addr/%d", i), []byte(strings.Repeat("x", size))},
			{"driver", fmt.Sprintf("endpoint/%d", i), nil},
		})
	}
	return out
}

// written is a journal of 16 pages with the groups in it, over an older generation
// of other groups, and where each frame begins and how long it is.
func written(groups [][]op, generation uint64) (b []byte, at, size []int) {
	b = make([]byte, 16*pageSize)
	for page, seq := 0, uint32(0); page < 16; page, seq = page+1, seq+1 {
		copy(b[page*pageSize:], frame{generation - 1, seq, encodeOps([]op{{"old", "old", []byte("old")}})}.encode())
	}
	page := 0
	for seq, ops := range groups {
		f := frame{generation, uint32(seq), encodeOps(ops)}
		copy(b[page*pageSize:], f.encode())
		at, size = append(at, page*pageSize), append(size, frameHead+len(f.payload))
		page += pagesFor(len(f.payload))
	}
	return b, at, size
}

func same(t *testing.T, what string, want [][]op, got []op) {
	t.Helper()
	if slices.EqualFunc(slices.Concat(want...), got, func(a, b op) bool {
		return a.bucket == b.bucket && a.key == b.key && bytes.Equal(a.value, b.value) && (a.value == nil) == (b.value == nil)
	}) {
		return
	}
	if diff := cmp.Diff(slices.Concat(want...), got, cmp.AllowUnexported(op{})); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func TestScanReadsWhatWasWritten(t *testing.T) {
	all := groups()
	b, _, _ := written(all, 7)
	ops, page, seq, err := scan(b, 7)
	if err != nil || page != 9 || seq != uint32(len(all)) {
		t.Fatalf("page %d, frame %d, %v", page, seq, err)
	}
	same(t, "changes", all, ops)
	for i, o := range ops {
		if deletes := i%2 == 1; (o.value == nil) != deletes {
			t.Errorf("change %d: value %v", i, o.value)
		}
	}
	if ops, page, _, err := scan(b, 8); err != nil || len(ops) != 0 || page != 0 {
		t.Errorf("a generation that was not begun: %v on page %d, %v", ops, page, err)
	}
}

// TestATornWriteIsCut: whatever part of the newest frame reached the disk, at any
// byte, from either end, or any of its sectors, what was answered before it is read
// and the frame is either whole or not there.
func TestATornWriteIsCut(t *testing.T) {
	all := groups()
	for newest := range all {
		before, _, _ := written(all[:newest], 7)
		after, at, size := written(all[:newest+1], 7)
		torn := func(what string, b []byte, whole bool) {
			ops, page, seq, err := scan(b, 7)
			if err != nil {
				t.Fatalf("frame %d, %s: %v", newest, what, err)
			}
			if !whole {
				if int(seq) != newest || page*pageSize != at[newest] {
					t.Fatalf("frame %d, %s: the next one is %d on page %d", newest, what, seq, page)
				}
				same(t, what, all[:newest], ops)
				return
			}
			same(t, what, all[:newest+1], ops)
		}
		end := at[newest] + size[newest]
		for cut := at[newest]; cut <= end; cut++ {
			b := slices.Concat(after[:cut], before[cut:])
			torn(fmt.Sprintf("the first %d bytes", cut-at[newest]), b, bytes.Equal(after[at[newest]:end], b[at[newest]:end]))
			if cut%5 == 0 {
				b = slices.Concat(before[:cut], after[cut:])
				torn(fmt.Sprintf("all but the first %d bytes", cut-at[newest]), b, bytes.Equal(after[at[newest]:end], b[at[newest]:end]))
			}
		}
		const sector = 512
		for range 300 {
			b := slices.Clone(before)
			for s := at[newest]; s < at[newest]+pagesFor(size[newest]-frameHead)*pageSize; s += sector {
				if rand.IntN(2) == 0 {
					copy(b[s:s+sector], after[s:s+sector])
				}
			}
			torn("some sectors", b, bytes.Equal(after[at[newest]:end], b[at[newest]:end]))
		}
	}
}

// TestDamageInTheMiddleIsRefused: one wrong bit anywhere in a frame that another one
// follows must not cut off what was answered.
func TestDamageInTheMiddleIsRefused(t *testing.T) {
	all := groups()
	good, at, size := written(all, 7)
	for f := range all {
		for i := at[f]; i < at[f]+size[f]; i++ {
			b := slices.Clone(good)
			b[i] ^= 1 << rand.IntN(8)
			ops, _, _, err := scan(b, 7)
			if f < len(all)-1 {
				if !errors.Is(err, errBadRecord) || len(ops) > 0 {
					t.Fatalf("frame %d, byte %d: %d changes, %v", f, i-at[f], len(ops), err)
				}
				continue
			}
			// The newest one cannot be told from a torn write.
			if err != nil {
				t.Fatalf("newest frame, byte %d: %v", i-at[f], err)
			}
			same(t, "without the newest", all[:f], ops)
		}
	}
	for _, c := range []struct {
		story, says string
		spoil       func(b []byte)
	}{
		{"a page of zeros", "page 0 cannot be read, and page 1, written after it, can", func(b []byte) { clear(b[:pageSize]) }},
		{"a frame that was lost", "page 1 cannot be read", func(b []byte) { copy(b[at[1]:], b[at[2]:at[3]]) }},
		{"an older state file", "page 3 is of generation 9 and the state file of 7", func(b []byte) { copy(b[3*pageSize:], frame{9, 0, nil}.encode()) }},
		{"changes of another kind", "frame 0 on page 0", func(b []byte) { copy(b, frame{7, 0, []byte{9, 1, 'b', 1, 'k'}}.encode()) }},
	} {
		b := slices.Clone(good)
		c.spoil(b)
		if _, _, _, err := scan(b, 7); !errors.Is(err, errBadRecord) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.story, err, c.says)
		}
	}
}

// FuzzScan: any bytes are read or refused, and what is read stays readable when the
// next frame is written behind it. The bytes are the beginnings of two pages.
func FuzzScan(f *testing.F) {
	one := frame{7, 0, encodeOps([]op{{"b", "k", []byte("v")}, {"b", "k", nil}})}.encode()[:64]
	two := frame{7, 1, nil}.encode()[:64]
	f.Add(one, two, uint64(7))
	f.Add(one, two, uint64(6))
	f.Add(one[:30], two, uint64(7))
	f.Add(frame{7, 0, []byte{opSet, 1, 'b', 1, 'k', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}}.encode()[:64], two, uint64(7))
	f.Fuzz(func(t *testing.T, first, second []byte, generation uint64) {
		b := make([]byte, 3*pageSize)
		copy(b[:pageSize], first)
		copy(b[pageSize:2*pageSize], second)
		ops, page, seq, err := scan(b, generation)
		if err != nil {
			if !errors.Is(err, errBadRecord) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if int(seq) > page || page > 3 {
			t.Fatalf("%d frames on %d pages", seq, page)
		}
		if page == 3 {
			return
		}
		copy(b[page*pageSize:], frame{generation, seq, encodeOps([]op{{"b", "k", []byte("v")}})}.encode())
		again, _, _, err := scan(b, generation)
		if err != nil || len(again) != len(ops)+1 {
			t.Errorf("%d changes and one more are %d, %v", len(ops), len(again), err)
		}
	})
}

// FuzzOps: changes are decoded or refused, and decoding is the opposite of encoding.
func FuzzOps(f *testing.F) {
	for _, ops := range groups() {
		f.Add(encodeOps(ops))
	}
	f.Add([]byte{opDelete, 1, 'b', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ops, err := decodeOps(b)
		if err != nil {
			return
		}
		again, err := decodeOps(encodeOps(ops))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ops, again, cmp.AllowUnexported(op{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
