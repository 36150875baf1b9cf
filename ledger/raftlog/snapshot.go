package raftlog

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
)

const keptSnapshots = 2

// Snapshots is where raft keeps its snapshots in a directory.
func Snapshots(dir string, logger hclog.Logger) (raft.SnapshotStore, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, logger)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return store, nil
}

// Preload reads, before raft starts and anybody's vote counts, what the disk holds: raft
// itself restores the snapshot, and the log once there is a leader. The entries that were not
// decided count as well, since a start that a host has shown did happen.
func Preload(snapshots raft.SnapshotStore, log *Log) (*state.State, error) {
	s, err := newestSnapshot(snapshots)
	if err != nil {
		return nil, fmt.Errorf("ledger: read snapshots: %w", err)
	}
	if err := log.Replay(s); err != nil && !errors.Is(err, state.ErrNewer) { // raft ends there, too
		return nil, err
	}
	return s, nil
}

// newestSnapshot returns the state that raft will begin with, an empty one without a snapshot.
func newestSnapshot(snapshots raft.SnapshotStore) (*state.State, error) {
	all, err := snapshots.List()
	if err != nil {
		return nil, err
	}
	for _, meta := range all { // the newest is the first
		_, r, err := snapshots.Open(meta.ID)
		if err != nil {
			continue
		}
		if s, err := ReadState(r); err == nil {
			return s, nil
		}
	}
	return state.NewState(), nil
}

// ReadState reads a state from a snapshot.
func ReadState(r io.ReadCloser) (*state.State, error) {
	b, err := io.ReadAll(io.LimitReader(r, state.MaxSnapshot+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("ledger: read snapshot: %w", err)
	}
	return state.DecodeState(b)
}

// Frozen is an encoded state. It implements raft.FSMSnapshot.
type Frozen []byte

// Persist implements raft.FSMSnapshot.
func (f Frozen) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(f); err != nil {
		return errors.Join(fmt.Errorf("ledger: write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (Frozen) Release() {}

// WriteSnapshot makes a state the snapshot that raft begins with in a new directory.
func WriteSnapshot(dir string, c raft.Configuration, index, term uint64, body []byte) error {
	store, err := Snapshots(dir, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	_, trans := raft.NewInmemTransport("") // encodes addresses in a field that nobody reads any more
	sink, err := store.Create(raft.SnapshotVersionMax, index, term, c, index, trans)
	if err == nil {
		err = Frozen(body).Persist(sink)
	}
	if err != nil {
		return fmt.Errorf("ledger: the recovered state cannot be written: %w", err)
	}
	return syncDir(dir)
}
