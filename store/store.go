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

// Format is the version of the layout that this release writes: 1 had no journal.
// A directory with a smaller one is upgraded in place, one with a greater is refused.
const Format = 2

// Sentinels that callers of Open decide on with errors.Is.
var (
	ErrNewerFormat = errors.New("state directory has a newer format")
	ErrInUse       = errors.New("state directory is in use")
	ErrDamaged     = errors.New("state file is damaged")
)

// FileName is the file with everything in it but the newest commits.
const FileName = "weft.db"

// lockWait is how long Open waits for an agent that is just ending.
const lockWait = 2 * time.Second

// Store is an open state directory. All methods are safe for concurrent use.
type Store struct {
	db      *bbolt.DB
	journal *journal // used by the one commit that is under way
	lock    *os.File
	path    string
	commit  *grouper
	ident   identityCell

	mu        sync.RWMutex // lets readers see db and journaled as of one moment
	journaled journaled    // what the journal holds
	poisoned  bool         // the database panicked; set by the commit that is under way
}

// Open locks dir, creating it if needed, checks its format and begins a new life
// of the host's identity: the next start number and a fresh nonce are on disk when
// it returns. Errors wrap ErrInUse, ErrNewerFormat, ErrDamaged or the failed
// system call and say what to do.
func Open(dir string) (*Store, error) { return open(dir, journalPages) }

// open makes a new journal of so many pages if there is none.
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
	// A bad page may be mapped beyond the file's end: make that a panic that the
	// line above turns into an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
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

// begin reads the journal, making one in a directory that has none, and starts a
// life of the identity.
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
	birth, err := s.birth()
	if err != nil {
		return err
	}
	return explain(s.firstCommit(birth.ops()))
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
	return fmt.Errorf("store: %s: %w; move all that is in %s away and start again as a new host, then remove the old one with `weft host rm`", path, err, filepath.Dir(path))
}

// Problem is why the last write failed, and what to do about it; empty: it did not.
func (s *Store) Problem() string { return s.commit.problem() }

// Close waits for commits under way and gives the directory free. Commits after
// it fail.
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

// closeFiles leaves a state file with bad pages open: a panic may have left the
// database's own locks taken.
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
