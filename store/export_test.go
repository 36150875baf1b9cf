package store

import (
	"os"
	"runtime"
)

// Next gives tests the identity of the next start.
func (id Identity) Next() Identity { return id.next() }

// OpenSmall is Open with a journal of so many pages in a new directory.
func OpenSmall(dir string, pages int) (*Store, error) { return open(dir, pages) }

// Syncing has f called in place of each sync of the journal.
func (s *Store) Syncing(f func(sync func() error) error) {
	plain := s.journal.sync
	s.journal.sync = func(file *os.File) error { return f(func() error { return plain(file) }) }
}

// WaitPending returns once so many commits wait for the one that is under way.
func (s *Store) WaitPending(n int) {
	for {
		s.commit.mu.Lock()
		waiting := len(s.commit.pending)
		s.commit.mu.Unlock()
		if waiting >= n {
			return
		}
		runtime.Gosched()
	}
}
