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

// Peek says why Open would refuse a directory at this moment, and changes nothing:
// the error wraps ErrInUse, ErrNewerFormat or ErrDamaged. A directory that does not
// exist, or has no state in it, is no error. It does not look into the journal.
func Peek(dir string) error {
	if err := peekLock(filepath.Join(dir, "lock")); err != nil {
		return fmt.Errorf("store: %s: %w by the agent with process id %s; stop that one first", dir, err, holder(filepath.Join(dir, "lock")))
	}
	path := filepath.Join(dir, FileName)
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	return peekFormat(path)
}

// peekLock is ErrInUse while an agent holds the lock, also one that is starting.
func peekLock(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // nobody ever locked it, or it cannot be told
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return nil
}

func peekFormat(path string) (err error) {
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
