package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Generation is the greatest generation of the ledger that this host heard of; 0 if
// it heard of none.
func (l *Ledger) Generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// generationKnown is what a command says of it: nothing in the first generation.
func (l *Ledger) generationKnown() uint64 {
	if life := l.Generation(); life > 1 {
		return life
	}
	return 0
}

// ObserveGeneration takes in that the ledger was recovered under this generation. A keeper of an
// older one keeps no more: what it decided since is not the cluster's word.
func (l *Ledger) ObserveGeneration(generation uint64) error {
	l.mu.Lock()
	newer := generation > l.life
	if newer {
		l.life = generation
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

// supersede ends keeping an older generation. Its log stays beside, for an operator
// who wants to know what was in it.
func (l *Ledger) supersede(generation uint64) error {
	return l.cease(func(k *keeper) bool { return k.generation < generation }, func(k *keeper) error {
		l.log.Warn("ledger: it was recovered elsewhere; this host keeps the older generation no more", "generation", k.generation, "newer", generation, "log", l.cfg.Dir+oldDir)
		l.mu.Lock()
		l.leader, l.known = Peer{}, nil
		l.mu.Unlock()
		return setAside(l.cfg.Dir)
	})
}

// keyTerm is where raft keeps its term (raft v1.8 raft.go).
var keyTerm = []byte("CurrentTerm")

// Names of directories beside the keeper's own.
const (
	halfDir  = ".making" // a recovered ledger while it is written
	freshDir = ".new"    // the same, complete, until it takes the place of the other
	oldDir   = ".old"    // a log that this host keeps no more; twice, the one before it
)

// setAside keeps a log beside, and the one that was set aside before it. Repeating it
// changes nothing.
func setAside(dir string) error {
	if !hasLog(dir) {
		return nil
	}
	older := dir + oldDir + oldDir
	err := errors.Join(os.RemoveAll(older), renameIfThere(dir+oldDir, older), renameIfThere(dir, dir+oldDir))
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

// replaceDir puts what was written beside the keeper's own directory, complete and on
// disk, in its place. Killed in between, settleDir ends it or undoes it.
func replaceDir(dir string) error {
	if err := errors.Join(os.RemoveAll(dir+freshDir), os.Rename(dir+halfDir, dir+freshDir)); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := setAside(dir); err != nil {
		return err
	}
	return settleDir(dir)
}

// settleDir ends a replacement that was interrupted once the old directory was set
// aside, else forgets it.
func settleDir(dir string) error {
	if err := os.RemoveAll(dir + halfDir); err != nil {
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

// writeRecovered makes a keeper's directory that begins with a state as its snapshot
// and this host as the only voter.
func writeRecovered(dir string, cluster netmap.ClusterID, self Peer, term uint64, s *state.State) error {
	body, err := s.Encode()
	if err == nil {
		err = errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700))
	}
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	disk, err := openLog(dir)
	if err != nil {
		return err
	}
	k := &keeper{self: self.ID, dir: dir, log: disk}
	err = disk.within(func() error {
		return errors.Join(k.claim(cluster, &cluster), k.claimGeneration(s.Generation()), disk.SetUint64(keyTerm, term))
	})
	if err := errors.Join(err, disk.close()); err != nil {
		return err
	}
	return writeSnapshot(dir, configurationOf([]Peer{self}), s.Applied(), term, body)
}

func writeSnapshot(dir string, c raft.Configuration, index, term uint64, body []byte) error {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, hclog.NewNullLogger())
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	_, trans := raft.NewInmemTransport("") // encodes addresses in a field that nobody reads any more
	sink, err := store.Create(raft.SnapshotVersionMax, index, term, c, index, trans)
	if err == nil {
		err = frozen(body).Persist(sink)
	}
	if err != nil {
		return fmt.Errorf("ledger: the recovered state cannot be written: %w", err)
	}
	return syncDir(dir)
}
