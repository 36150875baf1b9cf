package ledger

import (
	"time"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// lookForSpaceEvery is how often a keeper on a full disk looks whether there is room again.
const lookForSpaceEvery = 5 * time.Second

// stopOnFault stops a keeper whose disk failed, and leaves its log as it is. The leader then
// sees a keeper without a log and replaces it.
func (l *Ledger) stopOnFault(failed *keeper) {
	err := l.cease(func(k *keeper) bool { return k == failed }, func(k *keeper) error {
		l.faulted(k.log.Fault())
		return nil
	})
	if err != nil {
		l.log.Debug("ledger: the keeper whose disk failed did not stop cleanly", "err", err)
	}
}

// faulted records why this host does not keep the ledger although it should. If the disk is
// full, the keeper is started again once there is room.
func (l *Ledger) faulted(cause error) {
	l.mu.Lock()
	l.fault = cause
	l.mu.Unlock()
	l.log.Error(raftlog.FaultText(cause, l.cfg.Dir))
	if raftlog.Full(cause) {
		go l.retryWhenSpace(cause)
	}
}

// retryWhenSpace starts the keeper again, with the log that it has, once the disk has room.
func (l *Ledger) retryWhenSpace(cause error) {
	for turn.Sleep(l.ctx, lookForSpaceEvery) {
		l.mu.Lock()
		over := l.fault != cause || l.keeper != nil //nolint:errorlint // this one, or a later one
		l.mu.Unlock()
		if over {
			return
		}
		if raftlog.HaveSpace(l.cfg.Dir) != nil {
			continue
		}
		if err := l.keep(l.Cluster(), 0, nil); err != nil && l.ctx.Err() == nil {
			l.faulted(err)
			return
		}
	}
}

// stopKeeper decides what happens to the log on a faulty disk when the leader asks this host to
// keep the ledger. The leader has made sure that the host has no vote, so a damaged log is put
// away. While the disk is full, the host refuses.
func (l *Ledger) stopKeeper() error {
	defer l.lifecycle.Wait()()
	l.mu.Lock()
	cause := l.fault
	l.mu.Unlock()
	switch {
	case cause == nil:
		return nil
	case raftlog.Full(cause):
		if err := raftlog.HaveSpace(l.cfg.Dir); err != nil {
			return netmap.Refuse(netmap.Busy, "the disk of %s on this host is full; make room there", l.cfg.Dir)
		}
		return nil
	}
	away, err := raftlog.PutAway(l.cfg.Dir)
	if err != nil {
		return err
	}
	l.log.Warn("ledger: the damaged log was put away, a new one is begun", "dir", away)
	return nil
}
