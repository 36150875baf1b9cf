package ledger

import (
	"time"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// lookForSpaceEvery is how often a keeper on a full disk looks whether there is room again.
const lookForSpaceEvery = 5 * time.Second

// stopOnFault ends a keeper whose disk failed. The log stays as it is. To the leader
// this host is from now on one that has lost its log, and is replaced.
func (l *Ledger) stopOnFault(failed *keeper) {
	err := l.cease(func(k *keeper) bool { return k == failed }, func(k *keeper) error {
		l.faulted(k.log.Fault())
		return nil
	})
	if err != nil {
		l.log.Debug("ledger: the keeper that steps aside did not end cleanly", "err", err)
	}
}

// faulted notes why this host keeps nothing though it should, and sees to it that it
// comes back once there is room.
func (l *Ledger) faulted(cause error) {
	l.mu.Lock()
	l.fault = cause
	l.mu.Unlock()
	l.log.Error(raftlog.FaultText(cause, l.cfg.Dir))
	if raftlog.Full(cause) {
		go l.retryWhenSpace(cause)
	}
}

// retryWhenSpace keeps again what is in the log, once the disk has room.
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

// stopKeeper decides what becomes of a log on a faulty disk when the leader asks this host to
// keep one: the leader has made sure that it has no vote, so a spoilt one is put
// away. A full disk stays a refusal.
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
