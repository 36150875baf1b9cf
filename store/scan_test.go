package store_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/store"
)

// TestScanReverseIsLoadInOrder, wherever the entries are: in the state file, in the journal, or
// deleted in one and there in the other.
func TestScanReverseIsLoadInOrder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	t.Cleanup(func() { _ = s.Close() })
	next := 0
	rapid.Check(t, func(t *rapid.T) {
		next++
		b := s.Bucket(fmt.Sprintf("b%d", next)) // a new one each time
		key := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"a", "c", "o"}).Draw(t, "kind") + fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "number"))
		})
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				if err := b.Commit(map[string][]byte{key.Draw(t, "key"): []byte("v" + key.Draw(t, "value"))}); err != nil {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				if err := b.Commit(nil, key.Draw(t, "key")); err != nil {
					t.Fatal(err)
				}
			},
			"checkpoint": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				var err error
				if s, err = store.Open(dir); err != nil {
					t.Fatal(err)
				}
				b = s.Bucket(fmt.Sprintf("b%d", next))
			},
			"": func(t *rapid.T) {
				for _, prefix := range []string{"", "a", "c", "o", "z"} {
					all, err := b.Load()
					if err != nil {
						t.Fatal(err)
					}
					var want, got []string
					for _, k := range slices.Backward(slices.Sorted(maps.Keys(all))) {
						if strings.HasPrefix(k, prefix) {
							want = append(want, k+"="+string(all[k]))
						}
					}
					err = b.ScanReverse(prefix, func(k string, v []byte) bool {
						got = append(got, k+"="+string(v))
						return true
					})
					if diff := cmp.Diff(want, got); err != nil || diff != "" {
						t.Fatalf("under %q: %v (-want +got):\n%s", prefix, err, diff)
					}
				}
			},
		})
	})
}

// TestScanReverseEnds where it is told to.
func TestScanReverseEnds(t *testing.T) {
	b := open(t, t.TempDir()).Bucket("x")
	if err := b.Commit(map[string][]byte{"1": {1}, "2": {2}, "3": {3}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := b.ScanReverse("", func(k string, _ []byte) bool {
		got = append(got, k)
		return len(got) < 2
	})
	if diff := cmp.Diff([]string{"3", "2"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
