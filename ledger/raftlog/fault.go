package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bberr "go.etcd.io/bbolt/errors"

	"github.com/weftnet/weft/ledger/state"
)

// Raft v1.8 panics when it cannot write its term (raft.go, setCurrentTerm) or read an
// entry that it needs (processLogs, api.go's NewRaft), and stands for election forever
// when it cannot write entries. The agent, which forwards packets and hands out addresses,
// must not end because a disk is full or damaged. So the failure ends the goroutine of raft
// that meets it, with its deferred calls, as the end of the process would: nothing is
// answered or voted that is not on disk. Then the keeper stops and says why.

// fault is the first failure of a disk.
type fault struct {
	failed func() // called at the first failure

	mu    sync.Mutex
	cause error
}

func (f *fault) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cause
}

func (f *fault) note(err error) {
	f.mu.Lock()
	first := f.cause == nil
	if first {
		f.cause = err
	}
	f.mu.Unlock()
	if first && f.failed != nil {
		f.failed()
	}
}

// Fault is what the disk failed with, nil if it did not.
func (l *Log) Fault() error { return l.fault.err() }

// Fail has everything fail from now on, as a failing disk does.
func (l *Log) Fail(cause error) { l.fault.note(cause) }

func (l *Log) view(f func(*bbolt.Tx) error) error   { return l.give(l.db.View, f) }
func (l *Log) update(f func(*bbolt.Tx) error) error { return l.give(l.db.Update, f) }

// give returns what the disk says, or does not return: a failed disk ends the goroutine that
// asks.
func (l *Log) give(run func(func(*bbolt.Tx) error) error, f func(*bbolt.Tx) error) error {
	err := l.fault.err()
	if err == nil {
		err = tried(run, f)
	}
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, ErrNotFound) || errors.Is(err, bberr.ErrDatabaseNotOpen) {
		return err
	}
	l.Fail(fmt.Errorf("%s: %w", l.path, err))
	runtime.Goexit()
	return nil
}

// tried turns the panic that bad pages cause into an error.
func tried(run func(func(*bbolt.Tx) error) error, f func(*bbolt.Tx) error) (err error) {
	defer func() { err = caught(err, recover()) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return run(f)
}

func caught(err error, panicked any) error {
	if panicked == nil {
		return err
	}
	return fmt.Errorf("ledger: %w: %v", errBadPages, panicked)
}

// errBadPages means that bbolt panicked; it may hold its locks for ever.
var errBadPages = errors.New("bad pages")

// verify reads all of a log, if there is one. When bbolt opens a file to write, it looks for
// free pages in a goroutine of its own (db.go, freepages), where bad pages would end the agent;
// here they are an error. Raft needs all of the log, too.
func verify(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: openWait, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("ledger: cannot read %s: %w", path, err)
	}
	err = tried(db.View, func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			before := uint64(0)
			return b.ForEach(func(k, v []byte) error {
				if !bytes.Equal(name, bucketLog) {
					_, err := unseal(k, v)
					return err
				}
				index := indexOf(k)
				if before != 0 && index != before+1 {
					return fmt.Errorf("log entry %d follows %d: %w", index, before, state.ErrMalformed)
				}
				before = index
				_, err := decodeEntry(index, v)
				return err
			})
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("ledger: %s: %w", path, err)
	}
	return nil
}

func indexOf(key []byte) uint64 {
	if len(key) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

// Within runs what uses the log in a goroutine that may end halfway, and returns the failure
// of the disk if there is one.
func (l *Log) Within(f func() error) error {
	err := errors.New("ledger: ended halfway")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { err = caught(err, recover()) }()
		returned := f()
		err = returned
	}()
	<-done
	if cause := l.fault.err(); err != nil && cause != nil {
		return cause
	}
	return err
}

// Full reports whether a disk failed because it is full. It looks at the text too, as bbolt
// v1.5 and raft keep only the text of some errors.
func Full(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, e) || err != nil && strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

// spaceWanted is how much room a keeper needs to go on for a while.
const spaceWanted = 8 << 20

// HaveSpace returns nil if a directory has enough room to go on. It writes a file and removes
// it, so that quotas and reserves count as well.
func HaveSpace(dir string) error {
	f, err := os.CreateTemp(dir, "room-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	for n := 0; n < spaceWanted && err == nil; n += 1 << 16 {
		_, err = f.Write(make([]byte, 1<<16))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// FaultText tells the operator what is wrong with the disk of a directory, and what to do.
func FaultText(cause error, dir string) string {
	if Full(cause) {
		return fmt.Sprintf("ledger: this host cannot keep its part of the ledger, as the disk of %s is full: make room there, then it goes on by itself; until then it counts as a keeper that is down (%v)", dir, cause)
	}
	return fmt.Sprintf("ledger: this host cannot keep its part of the ledger, as its log in %s cannot be read or written: look at the disk. "+
		"While a majority of the other keepers is there, another log is made on this host or another one by itself; if there is none, put a copy of the log back and restart the agent (%v)", dir, cause)
}
