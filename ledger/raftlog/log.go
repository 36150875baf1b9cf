// Package raftlog is a keeper's part of the ledger on disk: raft's log and stable values in one
// bbolt file, its snapshots beside it, and what becomes of them when the disk fails, when the
// ledger is recovered and when the host keeps it no more.
package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Log is the log and the stable values of raft. A batch of entries is one transaction, hence
// one sync for all of them. raft-boltdb does the same but does not build with the metrics
// library that raft v1.8 needs.
//
// It implements raft.LogStore and raft.StableStore. The first failure of the disk ends
// the goroutine that meets it: see give.
type Log struct {
	db    *bbolt.DB
	path  string
	fault fault
}

var (
	bucketLog    = []byte("log")
	bucketStable = []byte("stable")
)

// ErrNotFound means that there is no such stable value. It has the text that raft compares with (raft v1.8 api.go).
var ErrNotFound = errors.New("not found")

// openWait bounds the wait for another process to let go of the file.
const openWait = 2 * time.Second

const logFile = "raft.db"

// Open opens the log in a directory, or begins one. The log calls failed, if that is not nil,
// once: at the first failure of the disk.
func Open(dir string, failed func()) (l *Log, err error) {
	path := filepath.Join(dir, logFile)
	defer func() { err = caught(err, recover()) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := verify(path); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: openWait, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("ledger: cannot open %s; is another agent running on this state directory, or is the disk full? %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err1 := tx.CreateBucketIfNotExists(bucketLog)
		_, err2 := tx.CreateBucketIfNotExists(bucketStable)
		return errors.Join(err1, err2)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: cannot write %s: %w", path, err), db.Close())
	}
	return &Log{db: db, path: path, fault: fault{failed: failed}}, nil
}

// Exists reports whether a keeper's log was ever begun in a directory.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, logFile))
	return err == nil
}

// Close leaves a file with bad pages open: bbolt would wait for itself.
func (l *Log) Close() error {
	if errors.Is(l.fault.err(), errBadPages) {
		return nil
	}
	return l.db.Close()
}

func logKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) { return l.edgeIndex((*bbolt.Cursor).First) }

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) { return l.edgeIndex((*bbolt.Cursor).Last) }

func (l *Log) edgeIndex(end func(*bbolt.Cursor) ([]byte, []byte)) (index uint64, err error) {
	err = l.view(func(tx *bbolt.Tx) error {
		k, _ := end(tx.Bucket(bucketLog).Cursor())
		index = indexOf(k)
		return nil
	})
	return index, err
}

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, out *raft.Log) error {
	return l.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketLog).Get(logKey(index))
		if b == nil {
			return missing(tx.Bucket(bucketLog).Cursor(), index)
		}
		entry, err := decodeEntry(index, b)
		if err != nil {
			return fmt.Errorf("ledger: log entry %d: %w", index, err)
		}
		*out = entry
		return nil
	})
}

// missing tells an entry that was dropped or never came from one that got lost.
func missing(c *bbolt.Cursor, index uint64) error {
	first, _ := c.First()
	last, _ := c.Last()
	if indexOf(first) < index && index < indexOf(last) {
		return fmt.Errorf("ledger: log entry %d is missing: %w", index, state.ErrMalformed)
	}
	return raft.ErrLogNotFound
}

// Replay carries out on a state all entries that follow it, decided or not.
func (l *Log) Replay(s *state.State) error {
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	for i := s.Applied() + 1; i <= last; i++ {
		var entry raft.Log
		if err := l.GetLog(i, &entry); err != nil || entry.Type != raft.LogCommand {
			continue // none of the ledger's, or in the snapshot that the state came from
		}
		cmd, err := state.DecodeCommand(entry.Data)
		var refusal *netmap.Refusal
		if err != nil && !errors.As(err, &refusal) {
			return err // of a newer release
		}
		s.Apply(i, cmd)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore: all of them or none, on disk at return.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	return l.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketLog)
		b.FillPercent = 0.9 // keys only grow
		for _, e := range entries {
			if err := b.Put(logKey(e.Index), encodeEntry(e)); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteRange implements raft.LogStore; both ends are included.
func (l *Log) DeleteRange(low, high uint64) error {
	return l.update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketLog).Cursor()
		for k, _ := c.Seek(logKey(low)); len(k) == 8 && binary.BigEndian.Uint64(k) <= high; k, _ = c.Next() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Set implements raft.StableStore. A checksum of key and value follows the value.
func (l *Log) Set(key, value []byte) error {
	sealed := binary.BigEndian.AppendUint32(bytes.Clone(value), checksum(key, value))
	return l.update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketStable).Put(key, sealed) })
}

// unseal returns a stable value without its checksum. It belongs to the transaction.
func unseal(key, sealed []byte) ([]byte, error) {
	n := len(sealed) - 4
	if n < 0 || binary.BigEndian.Uint32(sealed[n:]) != checksum(key, sealed[:n]) {
		return nil, fmt.Errorf("ledger: stable value %q: checksum: %w", key, state.ErrMalformed)
	}
	return sealed[:n], nil
}

// Get implements raft.StableStore.
func (l *Log) Get(key []byte) (value []byte, err error) {
	err = l.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketStable).Get(key)
		if b == nil {
			return ErrNotFound
		}
		b, err := unseal(key, b)
		value = append([]byte{}, b...) // b is gone with the transaction
		return err
	})
	return value, err
}

// SetUint64 implements raft.StableStore.
func (l *Log) SetUint64(key []byte, value uint64) error {
	return l.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (l *Log) GetUint64(key []byte) (uint64, error) {
	b, err := l.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("ledger: stable value %q has %d bytes: %w", key, len(b), state.ErrMalformed)
	}
	return binary.BigEndian.Uint64(b), nil
}

// An entry on disk: version, CRC-32C of the index and all that follows, type, term, time in
// nanoseconds, length of the data, data, extensions.
const (
	entryVersion = 2
	entryHead    = 1 + 4 + 1 + 8 + 8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

func encodeEntry(e *raft.Log) []byte {
	var at int64
	if !e.AppendedAt.IsZero() {
		at = e.AppendedAt.UnixNano()
	}
	b := make([]byte, 5, entryHead+len(e.Data)+len(e.Extensions))
	b[0] = entryVersion
	b = append(b, byte(e.Type))
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	b = append(append(b, e.Data...), e.Extensions...)
	binary.BigEndian.PutUint32(b[1:], checksum(logKey(e.Index), b[5:]))
	return b
}

func decodeEntry(index uint64, b []byte) (raft.Log, error) {
	if len(b) < entryHead {
		return raft.Log{}, fmt.Errorf("%d bytes: %w", len(b), state.ErrMalformed)
	}
	if b[0] != entryVersion {
		return raft.Log{}, fmt.Errorf("version %d, this release knows %d: %w", b[0], entryVersion, state.ErrNewer)
	}
	if want := binary.BigEndian.Uint32(b[1:]); want != checksum(logKey(index), b[5:]) {
		return raft.Log{}, fmt.Errorf("checksum: %w", state.ErrMalformed)
	}
	e := raft.Log{Index: index, Type: raft.LogType(b[5]), Term: binary.BigEndian.Uint64(b[6:])}
	if at := int64(binary.BigEndian.Uint64(b[14:])); at != 0 {
		e.AppendedAt = time.Unix(0, at)
	}
	n := binary.BigEndian.Uint32(b[22:])
	if uint64(n) > uint64(len(b)-entryHead) {
		return raft.Log{}, fmt.Errorf("data of %d bytes in %d: %w", n, len(b), state.ErrMalformed)
	}
	rest := bytes.Clone(b[entryHead:]) // b belongs to the transaction
	e.Data = rest[:n:n]
	if int(n) < len(rest) {
		e.Extensions = rest[n:]
	}
	return e, nil
}

// Writes counts the transactions that wrote to the log; each is two syncs.
func (l *Log) Writes() (n int) {
	_ = l.view(func(tx *bbolt.Tx) error { // fails with the log alone
		n = tx.ID()
		return nil
	})
	return n
}
