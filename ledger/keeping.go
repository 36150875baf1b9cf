package ledger

import (
	"errors"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/netmap"
)

// reopen starts the keeper again if this host was one when it stopped.
func (l *Ledger) reopen() error {
	if err := raftlog.FinishReplace(l.cfg.Dir); err != nil || !raftlog.Exists(l.cfg.Dir) {
		return err
	}
	err := l.keep(l.cfg.Cluster, 0, nil)
	switch {
	case errors.Is(err, errEmptyLog):
		return raftlog.SetAside(l.cfg.Dir)
	case err == nil && l.cfg.Cluster.IsZero() && len(l.kept().servers()) == 0: // killed while founding, before raft's first entry
		err, l.cluster = l.retire(), netmap.ClusterID{}
	}
	var refusal *netmap.Refusal
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	l.faulted(err) // a member all the same
	return nil
}

// keep makes this host a keeper if it is none. If first is given, it begins a log with these
// keepers.
func (l *Ledger) keep(cluster netmap.ClusterID, generation uint64, first []Peer) error {
	defer l.lifecycle.Wait()()
	if k := l.kept(); k != nil {
		if have := k.cluster; !cluster.IsZero() && have != cluster {
			return netmap.Refuse(netmap.Foreign, "this host keeps the ledger of cluster %s, not of %s; to move it, run weft cleanup on it and start it with WEFT_JOIN naming a host of the other", have, cluster)
		}
		return nil
	}
	if l.ctx.Err() != nil {
		return errors.New("ledger: closed")
	}
	k, err := l.startKeeper(cluster, generation, first)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.keeper, l.fault = k, nil
	if l.cluster.IsZero() {
		l.cluster = k.cluster
	}
	l.mu.Unlock()
	l.cfg.OnKeeper(true)
	return nil
}

// retire stops the keeper and sets its log aside. The leader has made sure that this host has
// no vote any more.
func (l *Ledger) retire() error {
	return l.cease(anyKeeper, func(*keeper) error {
		l.log.Info("ledger: this host keeps the ledger no more", "log", l.cfg.Dir+raftlog.OldDir)
		return raftlog.SetAside(l.cfg.Dir)
	})
}

func anyKeeper(*keeper) bool { return true }

// cease stops the keeper if meant returns true for it. It calls then, which deals with the log,
// before another keeper may start. Repeating it does nothing.
func (l *Ledger) cease(meant func(*keeper) bool, then func(*keeper) error) error {
	defer l.lifecycle.Wait()()
	l.mu.Lock()
	k := l.keeper
	if k == nil || l.closed || !meant(k) {
		l.mu.Unlock()
		return nil
	}
	l.keeper = nil
	l.mu.Unlock()
	err := k.stop()
	err = errors.Join(err, then(k))
	l.cfg.OnKeeper(false)
	return err
}

func (l *Ledger) kept() *keeper {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keeper
}
