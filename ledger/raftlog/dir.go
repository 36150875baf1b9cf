package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of directories beside the keeper's own.
const (
	// HalfDir is where a recovered ledger is while it is written.
	HalfDir  = ".making"
	freshDir = ".new" // the same, complete, until it takes the place of the other
	// OldDir is appended to the directory of a log that this host stopped keeping; appended
	// twice, it names the log before that.
	OldDir = ".old"
)

// SetAside renames a log's directory to OldDir, and the one that was there before to OldDir
// twice. Repeating it changes nothing.
func SetAside(dir string) error {
	if !Exists(dir) {
		return nil
	}
	older := dir + OldDir + OldDir
	err := errors.Join(os.RemoveAll(older), renameIfThere(dir+OldDir, older), renameIfThere(dir, dir+OldDir))
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return syncDir(filepath.Dir(dir))
}

func renameIfThere(from, to string) error {
	if err := os.Rename(from, to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Replace puts what was written to HalfDir, complete and synced, in the place of a directory.
// If it is killed in between, FinishReplace completes or undoes it.
func Replace(dir string) error {
	if err := errors.Join(os.RemoveAll(dir+freshDir), os.Rename(dir+HalfDir, dir+freshDir)); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := SetAside(dir); err != nil {
		return err
	}
	return FinishReplace(dir)
}

// FinishReplace completes a replacement that was interrupted, if the old directory was set aside
// already, and undoes it otherwise.
func FinishReplace(dir string) error {
	if err := os.RemoveAll(dir + HalfDir); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	_, err := os.Stat(dir)
	switch {
	case err == nil:
		err = os.RemoveAll(dir + freshDir)
	case errors.Is(err, fs.ErrNotExist):
		if err = os.Rename(dir+freshDir, dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		err = errors.Join(err, syncDir(filepath.Dir(dir)))
	}
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// PutAway moves a damaged log and its snapshots into a directory beside them, and returns that.
func PutAway(dir string) (away string, err error) {
	away = filepath.Join(dir, "damaged")
	err = errors.Join(os.RemoveAll(away), os.Mkdir(away, 0o700))
	for _, name := range []string{logFile, "snapshots"} {
		if moved := os.Rename(filepath.Join(dir, name), filepath.Join(away, name)); !errors.Is(moved, os.ErrNotExist) {
			err = errors.Join(err, moved)
		}
	}
	if err != nil {
		return "", fmt.Errorf("ledger: the damaged log cannot be put away: %w", err)
	}
	return away, nil
}
