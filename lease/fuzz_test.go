package lease

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// disk is one in memory.
type disk map[string][]byte

func (d disk) Load() (map[string][]byte, error) { return maps.Clone(d), nil }

func (d disk) Commit(set map[string][]byte, del ...string) error {
	maps.Copy(d, set)
	maps.DeleteFunc(d, func(key string, _ []byte) bool { return slices.Contains(del, key) })
	return nil
}

// FuzzRecords: what is on disk is read or refused.
func FuzzRecords(f *testing.F) {
	f.Add(leaseKey, []byte(`{"boot":"b","up":1,"wall":"2026-01-01T00:00:00Z"}`), []byte(`{"boot":"b","earliest":"2026-01-01T00:00:00Z"}`))
	f.Add(fenceKey, []byte(`{"host":"0123456789abcdef0123456789abcdef","why":"removed"}`), []byte{})
	f.Add(formerKey, []byte(`[]`), []byte(`[]`))
	f.Add(leavingKey, []byte{1}, []byte(`{`))
	f.Fuzz(func(t *testing.T, key string, value, noted []byte) {
		read := func() (Moment, error) { return Moment{Boot: "b", Up: time.Hour}, nil }
		l, err := Open(disk{key: value}, NewClocks(read, noted, func([]byte) {}))
		if err != nil {
			return
		}
		if may, _, err := l.State(); may == Anything && err != nil || may != Anything && err == nil {
			t.Errorf("%q %q: %v, %v", key, value, may, err)
		}
		if now, err := l.clocks.Sending(); err != nil || l.Grant(now) != nil {
			t.Errorf("%q %q: no renewal is taken in", key, value)
		}
	})
}
