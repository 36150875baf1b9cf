package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
)

// Format is the version of the layout that this release writes. A directory with
// a greater one is refused.
const Format = 1

// Sentinels that callers of Open decide on with errors.Is.
var (
	ErrNewerFormat = errors.New("state directory has a newer format")
	ErrInUse       = errors.New("state directory is in use")
	ErrDamaged     = errors.New("state file is damaged")
)

// FileName is the one file with everything in it.
const FileName = "weft.db"

// lockWait is how long Open waits for an agent that is just ending.
const lockWait = 2 * time.Second

// Store is an open state directory. All methods are safe for concurrent use.
type Store struct {
	db     *bbolt.DB
	lock   *os.File
	path   string
	commit *grouper
	ident  identityCell
}

// Open locks dir, creating it if needed, checks its format and begins a new life
// of the host's identity: the next start number and a fresh nonce are on disk when
// it returns. Errors wrap ErrInUse, ErrNewerFormat, ErrDamaged or the failed
// system call and say what to do.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: make state directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := openLocked(dir)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// openLocked is Open with the directory's lock held.
func openLocked(dir string) (s *Store, err error) {
	path := filepath.Join(dir, FileName)
	defer func() { err = damaged(path, err, recover()) }()
	// A bad page may be mapped beyond the file's end: make that a panic that the
	// line above turns into an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	s = &Store{db: db, path: path}
	s.commit = newGrouper(s.write)
	if err := db.Update(s.begin); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// begin checks the format and starts a life of the identity in one transaction.
func (s *Store) begin(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if err := checkFormat(meta); err != nil {
		return fmt.Errorf("store: %s: %w", s.path, err)
	}
	return s.ident.begin(meta)
}

// damaged turns a panic of the database library on bad pages, and its own errors
// about them, into ErrDamaged with the remedy.
func damaged(path string, err error, panicked any) error {
	bad := errors.Is(err, errBadRecord)
	for _, e := range badFile {
		bad = bad || errors.Is(err, e)
	}
	switch {
	case panicked != nil:
		err = fmt.Errorf("%w: %v", ErrDamaged, panicked)
	case bad:
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	default:
		return err
	}
	return fmt.Errorf("store: %s: %w; move it away and start again as a new host, then remove the old one with `weft host rm`", path, err)
}

// Close waits for commits under way and gives the directory free. Commits after
// it fail.
func (s *Store) Close() error {
	s.commit.close()
	return errors.Join(s.db.Close(), s.lock.Close())
}
