package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bberr "go.etcd.io/bbolt/errors"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// raft v1.8 panics when it cannot write its term (raft.go, setCurrentTerm) or read an
// entry that it needs (processLogs, api.go's NewRaft), and stands for election for
// ever when it cannot write entries. A full or spoilt disk is no reason for the
// agent, which forwards packets and hands out addresses, to end. So the goroutine of
// raft's that meets it ends there, with its deferred calls, as it would with the
// process: nothing is answered or voted that is not on disk. Then the keeper steps
// aside, as if it had died, and says so.

// diskFault is what is wrong with a disk.
type diskFault struct {
	failed func() // called at the first failure

	mu    sync.Mutex
	cause error
}

func (a *diskFault) err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause
}

func (a *diskFault) note(err error) {
	a.mu.Lock()
	first := a.cause == nil
	if first {
		a.cause = err
	}
	a.mu.Unlock()
	if first && a.failed != nil {
		a.failed()
	}
}

func (l *diskLog) view(f func(*bbolt.Tx) error) error   { return l.give(l.db.View, f) }
func (l *diskLog) update(f func(*bbolt.Tx) error) error { return l.give(l.db.Update, f) }

// give answers with what the disk says, or not at all: a failed disk ends the
// goroutine that asks.
func (l *diskLog) give(run func(func(*bbolt.Tx) error) error, f func(*bbolt.Tx) error) error {
	err := l.fault.err()
	if err == nil {
		err = tried(run, f)
	}
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, errNotFound) || errors.Is(err, bberr.ErrDatabaseNotOpen) {
		return err
	}
	l.fault.note(fmt.Errorf("%s: %w", l.path, err))
	runtime.Goexit()
	return nil
}

// tried makes an error of the panic that bad pages cause.
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

// verify reads all of a log, if there is one. bbolt looks for free pages in a
// goroutine of its own when it opens a file to write (db.go, freepages), and bad
// pages would end the agent there; here they are an error. raft, too, needs all of it.
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
					return nil
				}
				index := indexOf(k)
				if before != 0 && index != before+1 {
					return fmt.Errorf("log entry %d follows %d: %w", index, before, state.ErrMalformed)
				}
				before = index
				_, err := decodeEntry(v)
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

// within runs what uses the disk in a goroutine that may end halfway.
func (l *diskLog) within(f func() error) error {
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

// Times of a keeper that waits for room.
const (
	lookForSpaceEvery = 5 * time.Second
	spaceWanted       = 8 << 20 // to come back for a while
)

// stopOnFault ends a keeper whose disk failed. The log stays as it is. To the leader
// this host is from now on one that has lost its log, and is replaced.
func (l *Ledger) stopOnFault(failed *keeper) {
	err := l.cease(func(k *keeper) bool { return k == failed }, func(k *keeper) error {
		l.faulted(k.log.fault.err())
		return nil
	})
	if err != nil {
		l.log.Debug("ledger: the keeper that steps aside did not end cleanly", "err", err)
	}
}

// faulted notes why this host keeps nothing though it should, and sees to it that it
// comes back once there is room.
func (l *Ledger) faulted(cause error) {
	l.mu.Lock()
	l.fault = cause
	l.mu.Unlock()
	l.log.Error(diskFaultText(cause, l.cfg.Dir))
	if isFull(cause) {
		go l.retryWhenSpace(cause)
	}
}

// diskFaultText is for the operator.
func diskFaultText(cause error, dir string) string {
	if isFull(cause) {
		return fmt.Sprintf("ledger: this host cannot keep its part of the ledger, as the disk of %s is full: make room there, then it goes on by itself; until then it counts as a keeper that is down (%v)", dir, cause)
	}
	return fmt.Sprintf("ledger: this host cannot keep its part of the ledger, as its log in %s cannot be read or written: look at the disk. "+
		"While a majority of the other keepers is there, another log is made on this host or another one by itself; if there is none, put a copy of the log back and restart the agent (%v)", dir, cause)
}

// isFull looks at the text too: bbolt v1.5 and raft pass some errors on as texts.
func isFull(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, e) || err != nil && strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

// retryWhenSpace keeps again what is in the log, once the disk has room.
func (l *Ledger) retryWhenSpace(cause error) {
	for turn.Sleep(l.ctx, lookForSpaceEvery) {
		l.mu.Lock()
		over := l.fault != cause || l.keeper != nil //nolint:errorlint // this one, or a later one
		l.mu.Unlock()
		if over {
			return
		}
		if haveSpace(l.cfg.Dir) != nil {
			continue
		}
		if err := l.keep(l.Cluster(), 0, nil); err != nil && l.ctx.Err() == nil {
			l.faulted(err)
			return
		}
	}
}

// haveSpace takes some room and gives it back: quotas and reserves count as well.
func haveSpace(dir string) error {
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

// stopKeeper decides what becomes of a log on a faulty disk when the leader asks this host to
// keep one: the leader has made sure that it has no vote, so a spoilt one is put
// away. A full disk stays a refusal.
func (l *Ledger) stopKeeper() error {
	defer l.lifecycle.Wait()()
	l.mu.Lock()
	cause := l.fault
	l.mu.Unlock()
	switch {
	case cause == nil:
		return nil
	case isFull(cause):
		if err := haveSpace(l.cfg.Dir); err != nil {
			return netmap.Refuse(netmap.Busy, "the disk of %s on this host is full; make room there", l.cfg.Dir)
		}
		return nil
	}
	away := filepath.Join(l.cfg.Dir, "damaged")
	err := errors.Join(os.RemoveAll(away), os.Mkdir(away, 0o700))
	for _, name := range []string{logFile, "snapshots"} {
		if moved := os.Rename(filepath.Join(l.cfg.Dir, name), filepath.Join(away, name)); !errors.Is(moved, os.ErrNotExist) {
			err = errors.Join(err, moved)
		}
	}
	if err != nil {
		return fmt.Errorf("ledger: the damaged log cannot be put away: %w", err)
	}
	l.log.Warn("ledger: the damaged log was put away, a new one is begun", "dir", away)
	return nil
}
