package history

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// memory is a disk of no durability.
type memory map[string][]byte

func (m memory) Commit(set map[string][]byte, del ...string) error {
	maps.Copy(m, set)
	for _, key := range del {
		delete(m, key)
	}
	return nil
}

func (m memory) ScanReverse(prefix string, visit func(key string, value []byte) bool) error {
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(m))) {
		if strings.HasPrefix(key, prefix) && !visit(key, m[key]) {
			break
		}
	}
	return nil
}

// FuzzRecords: what is on disk of the history and cannot be read is left out, and the
// rest can be asked for.
func FuzzRecords(f *testing.F) {
	f.Add(openKey("e"), []byte(`{"id":"e","network":7,"v4":"10.40.0.5","from":5}`))
	f.Add(pageKey(3), []byte(`[{"id":"e","network":7,"v6":"fd00::5","from":5,"to":7}]`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		disk := memory{}
		if err := disk.Commit(map[string][]byte{key: value}); err != nil {
			t.Fatal(err)
		}
		s, err := open(disk, func(netmap.EndpointID) bool { return false })
		if err != nil {
			t.Fatalf("%q %q: %v", key, value, err)
		}
		if _, err := s.find(state.Query{}); err != nil {
			t.Errorf("%q %q: %v", key, value, err)
		}
		if err := s.write(); err != nil {
			t.Errorf("%q %q: %v", key, value, err)
		}
	})
}
