package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Format is the version of the layout that this release writes. Version 1 had no journal.
// A directory of an earlier version is upgraded in place, one of a later is refused.
const Format = 2

// Errors that callers of Open test for with errors.Is.
var (
	ErrNewerFormat = errors.New("state directory has a newer format")
	ErrInUse       = errors.New("state directory is in use")
	ErrDamaged     = errors.New("state file is damaged")
)

// FileName is the file with everything but the newest commits.
const FileName = "weft.db"

// lockWait is how long Open waits for the lock of an agent that is just ending.
const lockWait = 2 * time.Second

// Store is an open state directory. All methods are safe for concurrent use.
type Store struct {
	db      *bbolt.DB
	journal *journal // used by the one commit that is under way
	lock    *os.File
	path    string
	commit  *grouper
	ident   identityCell

	mu        sync.RWMutex // makes readers see db and journaled as of one moment
	journaled journaled    // what the journal holds
	poisoned  bool         // the database panicked; set by the commit that is under way
}

// mapped is how much of the address space the file gets, and no memory: when it outgrows that, the
// database copies all that a commit has read.
const mapped = 64 << 20

// Open locks dir, creates it if needed, checks its format and begins a new start of the
// host's identity: the next start number and a fresh nonce are on disk when it returns.
// Errors wrap ErrInUse, ErrNewerFormat, ErrDamaged or the failed system call and say what
// to do.
func Open(dir string) (*Store, error) { return open(dir, journalPages) }

// open is Open; if there is no journal it makes one of this number of pages.
func open(dir string, pages int) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: make state directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := openLocked(dir, pages)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// openLocked is Open with the directory's lock held.
func openLocked(dir string, pages int) (s *Store, err error) {
	path := filepath.Join(dir, FileName)
	defer func() { err = damaged(path, err, recover()) }()
	// Reading a bad page may touch memory beyond the file's end. That becomes a panic,
	// which the line above turns into an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapped})
	if err != nil {
		return nil, err
	}
	s = &Store{db: db, path: path, journaled: journaled{}}
	s.commit = newGrouper(s.write)
	if err := s.begin(pages); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	return s, nil
}

// begin reads the journal, or makes one where there is none, and begins a start of the
// identity.
func (s *Store) begin(pages int) error {
	path := filepath.Join(filepath.Dir(s.path), JournalName)
	state, err := s.journalState()
	if err != nil {
		return err
	}
	if state.Generation == 0 {
		if state, err = s.upgrade(path, pages); err != nil {
			return err
		}
	}
	journal, ops, err := openJournal(path, state.Pages, state.Generation)
	if err != nil {
		return err
	}
	s.journal = journal
	s.journaled.take(ops)
	begin, err := s.nextStart()
	if err != nil {
		return err
	}
	return explain(s.firstCommit(begin.ops()))
}

// damaged turns panics and errors of the database library about bad pages into ErrDamaged
// with the remedy.
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
	return fmt.Errorf("store: %s: %w; move all that is in %s away and start again as a new host, then remove the old one with `weft host rm`", path, err, filepath.Dir(path))
}

// Problem says why the last write failed and what to do about it. It is empty if the last
// write succeeded.
func (s *Store) Problem() string { return s.commit.problem() }

// Close waits for commits under way and releases the directory. Later commits fail.
func (s *Store) Close() error {
	var err error
	if s.commit.close() {
		err = s.checkpoint(nil)
	}
	if noRoom(err) {
		err = nil // the journal has it
	}
	return errors.Join(err, s.closeFiles(), s.lock.Close())
}

// closeFiles does not close a state file with bad pages: a panic may have left the
// database's own locks held.
func (s *Store) closeFiles() error {
	var err error
	if s.journal != nil {
		err = s.journal.close()
	}
	if !s.poisoned {
		err = errors.Join(s.db.Close(), err)
	}
	return err
}
