package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"

	"go.etcd.io/bbolt"
)

var (
	keyFormat  = []byte("format")
	keyJournal = []byte("journal")
)

// journalState says which journal belongs to a state file: the file lacks the frames of
// this generation, and contains those of earlier ones.
type journalState struct {
	Generation uint64 `json:"generation"` // 0: of a format without a journal
	Pages      int    `json:"pages"`
}

// journalState reads it, refusing a format that this release does not know.
func (s *Store) journalState() (state journalState, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			return nil
		}
		format, err := readFormat(meta)
		if err != nil || format < Format {
			return err
		}
		state, err = readJournalState(meta.Get(keyJournal))
		return err
	})
	return state, err
}

func readJournalState(raw []byte) (state journalState, err error) {
	if err := json.Unmarshal(raw, &state); err != nil || state.Generation == 0 || state.Pages <= 0 {
		return journalState{}, fmt.Errorf("%w: journal %q", errBadRecord, raw)
	}
	return state, nil
}

// readFormat returns 0 for a new file.
func readFormat(meta *bbolt.Bucket) (int, error) {
	raw := meta.Get(keyFormat)
	if raw == nil {
		return 0, nil
	}
	return parseFormat(raw)
}

func parseFormat(raw []byte) (int, error) {
	n, err := strconv.Atoi(string(raw))
	switch {
	case err != nil || n < 1:
		return 0, fmt.Errorf("%w: format %q", errBadRecord, raw)
	case n > Format:
		return 0, fmt.Errorf("%w: it is format %d, this release of weft reads up to format %d; install the newer release again", ErrNewerFormat, n, Format)
	}
	return n, nil
}

// upgrade gives a new directory, or one of an earlier format, a journal: it makes the
// file first, then records that the file counts. From then on earlier releases refuse the
// directory, as they would not read the journal.
func (s *Store) upgrade(path string, pages int) (journalState, error) {
	state := journalState{Generation: 1, Pages: pages}
	if err := makeJournal(path, pages); err != nil {
		return state, explain(err)
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(keyFormat, []byte(strconv.Itoa(Format))), putJSON(meta, keyJournal, state))
	})
	return state, explain(err)
}

// write carries out a group of changes. If the database meets a bad page, write returns
// an error.
func (s *Store) write(group []change) (err error) {
	defer func() {
		panicked := recover()
		s.poisoned = s.poisoned || panicked != nil
		err = damaged(s.path, err, panicked)
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var ops []op
	for _, c := range group {
		ops = append(ops, c.ops()...)
	}
	if len(ops) == 0 {
		return nil
	}
	err = s.append(ops, s.journal.reserve())
	if errors.Is(err, errJournalFull) {
		err = s.checkpoint(ops)
	}
	return err
}

func (s *Store) append(ops []op, free int) error {
	if err := s.journal.append(ops, free); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journaled.take(ops)
	return nil
}

// firstCommit writes the first changes after Open with a checkpoint, so that what was read
// from the journal is written again: the previous process may have ended with a failed
// sync, and then the kernel shows what is not on the disk. On a full disk the agent starts
// all the same, as long as the journal has space.
func (s *Store) firstCommit(ops []op) error {
	err := s.checkpoint(ops)
	if !noRoom(err) {
		return err
	}
	if err := s.db.Sync(); err != nil {
		return err
	}
	if again := s.append(ops, 0); !errors.Is(again, errJournalFull) {
		return again
	}
	return err
}

// errBroken means that it is not known what is on disk.
var errBroken = errors.New("a write ended halfway")

// checkpoint moves the content of the journal, and further changes, into the state file
// and begins the journal's next generation, all in one transaction. The one commit that
// is under way calls it.
func (s *Store) checkpoint(ops []op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.journaled)+len(ops) == 0 {
		return nil
	}
	state := journalState{Generation: s.journal.generation + 1, Pages: s.journal.pages}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := s.journaled.put(tx); err != nil {
			return err
		}
		for _, o := range ops {
			if err := o.put(tx); err != nil {
				return err
			}
		}
		return putJSON(tx.Bucket(metaBucket), keyJournal, state)
	})
	if err != nil {
		// A transaction that fails at its very end may have begun the new generation all
		// the same. Frames appended to the old one would then never be read.
		if now, readErr := s.journalState(); readErr != nil || now.Generation != s.journal.generation {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		return err
	}
	clear(s.journaled)
	s.journal.restart(state.Generation)
	return nil
}

func (u journaled) put(tx *bbolt.Tx) error {
	for bucket, keys := range u {
		for key, value := range keys {
			if err := (op{bucket, key, value}).put(tx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o op) put(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists([]byte(o.bucket))
	if err == nil && o.value == nil {
		err = b.Delete([]byte(o.key))
	} else if err == nil {
		err = b.Put([]byte(o.key), o.value)
	}
	if err != nil {
		return fmt.Errorf("key %q: %w", o.key, err)
	}
	return nil
}
