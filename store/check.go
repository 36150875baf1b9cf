package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Check returns why Open would refuse a directory at this moment, and changes nothing.
// The error wraps ErrInUse, ErrNewerFormat or ErrDamaged. It is nil if the directory does
// not exist or has no state in it. Check does not read the journal.
func Check(dir string) error {
	if err := checkLock(filepath.Join(dir, "lock")); err != nil {
		return fmt.Errorf("store: %s: %w by the agent with process id %s; stop that one first", dir, err, holder(filepath.Join(dir, "lock")))
	}
	path := filepath.Join(dir, FileName)
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	return checkFormat(path)
}

// Read returns one package's part of a directory that no agent has open. It changes
// nothing; its error is like that of Check. A part that does not exist is empty.
func Read(dir, bucket string) (got map[string][]byte, err error) {
	path := filepath.Join(dir, FileName)
	defer func() { err = damaged(path, err, recover()) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s := &Store{db: db, path: path, journaled: journaled{}}
	state, err := s.journalState()
	if err != nil {
		return nil, err
	}
	if state.Generation > 0 {
		j, ops, err := openJournal(filepath.Join(dir, JournalName), state.Pages, state.Generation)
		if err != nil {
			return nil, err
		}
		s.journaled.take(ops)
		if err := j.close(); err != nil {
			return nil, err
		}
	}
	return s.Bucket(bucket).Load()
}

// checkLock returns ErrInUse while an agent holds the lock, also while it is starting.
func checkLock(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // nobody ever locked it, or that cannot be found out
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return nil
}

func checkFormat(path string) (err error) {
	defer func() { err = damaged(path, err, recover()) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			_, err := readFormat(meta)
			return err
		}
		return nil
	})
	return errors.Join(err, db.Close())
}
