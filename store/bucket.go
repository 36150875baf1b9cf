package store

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// maxValue keeps a group far below the sizes that the database and a frame can express.
const maxValue = 1 << 28

// Bucket is one package's part of the file.
type Bucket struct {
	s    *Store
	name []byte
}

// Bucket returns the part of the file with a name. Its first Commit creates it. The name
// "weft" is reserved for the store itself.
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s: s, name: []byte(name)} }

// Load reads the whole bucket. A bucket that does not exist is empty.
func (b *Bucket) Load() (map[string][]byte, error) {
	b.s.mu.RLock()
	defer b.s.mu.RUnlock()
	got := map[string][]byte{}
	err := b.s.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(b.name)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(k, v []byte) error {
			got[string(k)] = bytes.Clone(v)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store: read %s: %w", b.name, err)
	}
	b.s.journaled.over(string(b.name), got)
	return got, nil
}

// Commit sets and deletes keys in one step and returns when that is on disk. A failed
// commit changes nothing that Load shows in this process. If the disk is full, later
// commits succeed once there is space; after any other failure to write, all later ones
// fail until the agent is restarted. Commits that are called at the same moment share one
// sync, and a single one does not wait for others. Commit does not keep the values.
func (b *Bucket) Commit(set map[string][]byte, del ...string) error {
	return b.s.commit.do(change{bucket: b.name, set: set, del: del})
}

// change is the argument of one Commit.
type change struct {
	bucket []byte
	set    map[string][]byte
	del    []string
}

// check refuses what the database would refuse, before it makes the commits of others in
// the same group fail.
func (c change) check() error {
	if len(c.bucket) == 0 {
		return fmt.Errorf("store: bucket without a name")
	}
	for k, v := range c.set {
		if k == "" || len(k) > bbolt.MaxKeySize {
			return fmt.Errorf("store: key of %d bytes: want 1 to %d", len(k), bbolt.MaxKeySize)
		}
		if len(v) > maxValue {
			return fmt.Errorf("store: value of %d bytes for key %q: want at most %d", len(v), k, maxValue)
		}
	}
	return nil
}
