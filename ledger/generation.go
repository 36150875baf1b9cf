package ledger

import (
	"errors"
	"fmt"
	"os"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Generation returns the greatest generation of the ledger that this host heard of, 0 if it
// heard of none.
func (l *Ledger) Generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heardOf
}

// generationHeard returns the greatest generation that this host heard of or has facts of.
func (l *Ledger) generationHeard() uint64 { return max(l.Generation(), l.cfg.Facts().Generation) }

// generationKnown returns the generation that goes into a command: 0 in the first one.
func (l *Ledger) generationKnown() uint64 {
	if heard := l.Generation(); heard > 1 {
		return heard
	}
	return 0
}

// ObserveGeneration records that the ledger was recovered under this generation. A keeper of an
// older generation stops: what it decided since does not count.
func (l *Ledger) ObserveGeneration(generation uint64) error {
	l.mu.Lock()
	newer := generation > l.heardOf
	if newer {
		l.heardOf = generation
	}
	if newer && generation > 1 {
		l.leader, l.known = Peer{}, nil
	}
	k := l.keeper
	l.mu.Unlock()
	if k == nil || k.generation >= generation {
		return nil
	}
	return l.supersede(generation)
}

// supersede stops a keeper of an older generation. Its log stays beside the new one, for an
// operator who wants to know what was in it.
func (l *Ledger) supersede(generation uint64) error {
	return l.cease(func(k *keeper) bool { return k.generation < generation }, func(k *keeper) error {
		l.log.Warn("ledger: it was recovered elsewhere; this host keeps the older generation no more", "generation", k.generation, "newer", generation, "log", l.cfg.Dir+raftlog.OldDir)
		l.mu.Lock()
		l.leader, l.known = Peer{}, nil
		l.mu.Unlock()
		return raftlog.SetAside(l.cfg.Dir)
	})
}

// keyTerm is where raft keeps its term (raft v1.8 raft.go).
var keyTerm = []byte("CurrentTerm")

// writeRecovered makes a keeper's directory with a state as its snapshot and this host as the
// only voter.
func writeRecovered(dir string, cluster netmap.ClusterID, self Peer, term uint64, s *state.State) error {
	body, err := s.Encode()
	if err == nil {
		err = errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700))
	}
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	disk, err := raftlog.Open(dir, nil)
	if err != nil {
		return err
	}
	k := &keeper{self: self.ID, dir: dir, log: disk}
	err = disk.Within(func() error {
		return errors.Join(k.claim(cluster, &cluster), k.claimGeneration(s.Generation()), disk.SetUint64(keyTerm, term))
	})
	if err := errors.Join(err, disk.Close()); err != nil {
		return err
	}
	return raftlog.WriteSnapshot(dir, configurationOf([]Peer{self}), s.Applied(), term, body)
}
