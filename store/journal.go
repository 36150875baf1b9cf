package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// JournalName is the file that commits are written to first.
const JournalName = "weft.journal"

// journalPages are 4 MiB: a thousand commits of a single caller before a checkpoint moves
// them into the state file. The file is written in full when it is made, so that no commit
// needs new space.
const journalPages = 1024

// errJournalFull means that a frame does not fit any more; nothing was written.
var errJournalFull = errors.New("the journal is full")

// journal is the file of the latest groups of changes, one write and one sync each.
// Invariant: all pages before next are on disk and hold the frames 0 to seq-1 of the
// generation, and no page from next on holds a committed frame of it.
type journal struct {
	file       *os.File
	pages      int
	generation uint64
	next       int // page
	seq        uint32
	sync       func(*os.File) error
}

// makeJournal writes a file of empty pages and syncs the file and its directory. It
// replaces an existing file, which must not hold a frame.
func makeJournal(path string, pages int) error {
	if old, err := os.ReadFile(path); err == nil {
		if _, _, _, err := scan(old, 0); err != nil {
			return fmt.Errorf("%w: %s has commits of another state file: %w", errBadRecord, path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	empty := make([]byte, pageSize)
	for range pages {
		if _, err := f.Write(empty); err != nil {
			return errors.Join(fmt.Errorf("a new journal needs %d KiB: %w", pages*pageSize>>10, err), f.Close(), os.Remove(path))
		}
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Close(), syncDir(filepath.Dir(path)))
}

// openJournal reads a journal of a generation and the changes in it.
func openJournal(path string, pages int, generation uint64) (*journal, []op, error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("%w: %s is missing, which holds the newest commits", errBadRecord, path)
	case err != nil:
		return nil, nil, err
	case len(b) != pages*pageSize:
		return nil, nil, fmt.Errorf("%w: %s has %d bytes instead of %d", errBadRecord, path, len(b), pages*pageSize)
	}
	ops, next, seq, err := scan(b, generation)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	return &journal{file: f, pages: pages, generation: generation, next: next, seq: seq, sync: datasync}, ops, nil
}

// append writes a group to disk and leaves at least this number of pages free. After an
// error the next frame is written over this one.
func (j *journal) append(ops []op, free int) error {
	payload := encodeOps(ops)
	n := pagesFor(len(payload))
	if n > j.pages-free-j.next {
		return errJournalFull
	}
	b := frame{j.generation, j.seq, payload}.encode()
	if _, err := j.file.WriteAt(b, int64(j.next)*pageSize); err != nil {
		return err
	}
	if err := j.sync(j.file); err != nil {
		return err
	}
	j.next += n
	j.seq++
	return nil
}

// reserve are pages that only Open may use, so that agents can start on a full disk.
func (j *journal) reserve() int { return j.pages / 16 }

// restart begins a generation, after all earlier frames are in the state file.
func (j *journal) restart(generation uint64) { j.generation, j.next, j.seq = generation, 0, 0 }

func (j *journal) close() error { return j.file.Close() }

func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// syncDir syncs a directory, so that the names in it are on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
