package store

import (
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// ScanReverse visits the entries whose keys begin with a prefix, in descending order, until
// visit returns false. It sees the entries as they are when it is called; commits go on
// meanwhile. The value is valid until visit returns.
func (b *Bucket) ScanReverse(prefix string, visit func(key string, value []byte) bool) error {
	tx, newer, err := b.picture(prefix)
	if err != nil {
		return fmt.Errorf("store: read %s: %w", b.name, err)
	}
	defer func() { _ = tx.Rollback() }() // it has only read
	older := &descent{prefix: prefix}
	if bucket := tx.Bucket(b.name); bucket != nil {
		older.seek(bucket.Cursor())
	}
	for len(newer) > 0 || older.key != "" {
		key, value := older.key, older.value
		if len(newer) > 0 && newer[0].key >= key {
			if newer[0].key == key {
				older.next()
			}
			key, value = newer[0].key, newer[0].value
			newer = newer[1:]
		} else {
			older.next()
		}
		if value != nil && !visit(key, value) {
			return nil
		}
	}
	return nil
}

// picture is the content of the state file and of the journal at one moment.
func (b *Bucket) picture(prefix string) (*bbolt.Tx, []op, error) {
	b.s.mu.RLock()
	defer b.s.mu.RUnlock()
	tx, err := b.s.db.Begin(false)
	if err != nil {
		return nil, nil, err
	}
	var newer []op
	for k, v := range b.s.journaled[string(b.name)] {
		if strings.HasPrefix(k, prefix) {
			newer = append(newer, op{key: k, value: v})
		}
	}
	slices.SortFunc(newer, func(x, y op) int { return strings.Compare(y.key, x.key) })
	return tx, newer, nil
}

// descent iterates in descending order over the keys of a database bucket that begin with
// a prefix.
type descent struct {
	cursor *bbolt.Cursor
	prefix string
	key    string // empty: there are no more
	value  []byte
}

// seek begins with the last one.
func (d *descent) seek(c *bbolt.Cursor) {
	d.cursor = c
	// No key that begins with the prefix lies behind this one: keys are text.
	if k, _ := c.Seek([]byte(d.prefix + "\xff")); k == nil {
		d.take(c.Last())
		return
	}
	d.next()
}

func (d *descent) next() { d.take(d.cursor.Prev()) }

func (d *descent) take(k, v []byte) {
	d.key, d.value = "", nil
	if strings.HasPrefix(string(k), d.prefix) {
		d.key, d.value = string(k), v
	}
}
