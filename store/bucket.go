package store

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// Bucket is one room's part of the file.
type Bucket struct {
	s    *Store
	name []byte
}

// Bucket names a part of the file; it comes to exist with its first Commit. The
// name "weft" is the store's own.
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s: s, name: []byte(name)} }

// Load reads the whole bucket; an absent one is empty.
func (b *Bucket) Load() (map[string][]byte, error) {
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
	return got, nil
}

// Commit sets and deletes keys in one step and returns when that is on disk. A
// failed commit changes nothing that Load will show in this process; after a
// failure to sync the file, all later commits fail until the agent is restarted.
// Commits that are called at the same moment share one sync; a lone one waits for
// nobody. The values are not kept after the return.
func (b *Bucket) Commit(set map[string][]byte, del ...string) error {
	return b.s.commit.do(change{bucket: b.name, set: set, del: del})
}

// write carries out a group of changes in one transaction. A bad page that the
// database meets is an error like any other.
func (s *Store) write(group []change) (err error) {
	defer func() { err = damaged(s.path, err, recover()) }()
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, c := range group {
			if err := c.apply(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// change is what one Commit asks for.
type change struct {
	bucket []byte
	set    map[string][]byte
	del    []string
}

func (c change) apply(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists(c.bucket)
	if err != nil {
		return err
	}
	for k, v := range c.set {
		if err := b.Put([]byte(k), v); err != nil {
			return fmt.Errorf("key %q: %w", k, err)
		}
	}
	for _, k := range c.del {
		if err := b.Delete([]byte(k)); err != nil {
			return fmt.Errorf("key %q: %w", k, err)
		}
	}
	return nil
}

// check refuses what the database would refuse, before it can spoil the commits
// of others in the same group.
func (c change) check() error {
	if len(c.bucket) == 0 {
		return fmt.Errorf("store: bucket without a name")
	}
	for k := range c.set {
		if k == "" || len(k) > bbolt.MaxKeySize {
			return fmt.Errorf("store: key of %d bytes: want 1 to %d", len(k), bbolt.MaxKeySize)
		}
	}
	return nil
}
