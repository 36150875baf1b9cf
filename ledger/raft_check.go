package ledger

import (
	"fmt"
	"math"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// raft v1.8 believes what comes by its streams: it stores entries and snapshots before it
// reads them, panics where it cannot, and takes over any greater term. What another host
// sends is checked here first.

const (
	// termStep and indexStep are how far a term or an index may be ahead of this keeper's:
	// years of elections, and more entries than a disk holds.
	termStep  = 1 << 32
	indexStep = 1 << 40
	// mostServers bounds a configuration: the keepers and those that are about to be.
	mostServers = 64
)

// checkTerm refuses a term that no election leads to.
func checkTerm(term, current uint64) error {
	if term > current && term-current > termStep {
		return fmt.Errorf("term %d after %d: %w", term, current, state.ErrMalformed)
	}
	return nil
}

// checkConfiguration reads the keepers of an entry or a snapshot.
func checkConfiguration(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil { // DecodeConfiguration panics
			err = fmt.Errorf("%v: %w", p, state.ErrMalformed)
		}
	}()
	servers := raft.DecodeConfiguration(b).Servers
	if len(servers) == 0 || len(servers) > mostServers {
		return fmt.Errorf("a configuration of %d keepers: %w", len(servers), state.ErrMalformed)
	}
	seen := map[netmap.HostID]bool{}
	voters := 0
	for _, s := range servers {
		id, _, err := parseServer(s.Address)
		if err != nil || string(s.ID) != id.String() || seen[id] || s.Suffrage != raft.Voter && s.Suffrage != raft.Nonvoter {
			return fmt.Errorf("keeper %q at %q in a configuration: %w", s.ID, s.Address, state.ErrMalformed)
		}
		seen[id] = true
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	if voters == 0 {
		return fmt.Errorf("a configuration without a voter: %w", state.ErrMalformed)
	}
	return nil
}

// checkEntries reads what a leader adds to the log.
func checkEntries(a *raft.AppendEntriesRequest) error {
	if a.PrevLogEntry > math.MaxUint64-uint64(len(a.Entries))-1 {
		return fmt.Errorf("entries after %d: %w", a.PrevLogEntry, state.ErrMalformed)
	}
	for i, e := range a.Entries {
		if e == nil || e.Index != a.PrevLogEntry+uint64(i)+1 || e.Term > a.Term {
			return fmt.Errorf("entry %d after %d: %w", i+1, a.PrevLogEntry, state.ErrMalformed)
		}
		if err := checkEntry(e); err != nil {
			return fmt.Errorf("entry %d of type %d: %w", e.Index, e.Type, err)
		}
	}
	return nil
}

func checkEntry(e *raft.Log) error {
	switch e.Type {
	case raft.LogNoop, raft.LogBarrier:
		return nil
	case raft.LogConfiguration:
		return checkConfiguration(e.Data)
	case raft.LogCommand:
		return readable(e.Data)
	}
	return state.ErrMalformed
}

// checkSnapshot reads what comes before a snapshot; last is this keeper's newest index.
func checkSnapshot(r *raft.InstallSnapshotRequest, last uint64) error {
	switch {
	case r.SnapshotVersion != raft.SnapshotVersionMax, r.LastLogTerm > r.Term, r.ConfigurationIndex > r.LastLogIndex:
		return fmt.Errorf("a snapshot of version %d: %w", r.SnapshotVersion, state.ErrMalformed)
	case r.LastLogIndex > last && r.LastLogIndex-last > indexStep:
		return fmt.Errorf("a snapshot of entry %d after %d: %w", r.LastLogIndex, last, state.ErrMalformed)
	case r.Size < 0 || r.Size > state.MaxSnapshot:
		return fmt.Errorf("a snapshot of %d bytes, at most %d: %w", r.Size, state.MaxSnapshot, state.ErrMalformed)
	}
	return checkConfiguration(r.Configuration)
}

// checkState reads the snapshot itself.
func checkState(b []byte, cluster netmap.ClusterID, generation, last uint64) error {
	s, err := state.DecodeState(b)
	if err != nil {
		return err
	}
	if s.Cluster() != cluster || s.Generation() != generation || s.Applied() > last {
		return fmt.Errorf("a snapshot of cluster %s, generation %d, decision %d: %w", s.Cluster(), s.Generation(), s.Applied(), state.ErrMalformed)
	}
	return nil
}
