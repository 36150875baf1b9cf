package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Ledger is this host's way to the cluster's decisions, and the keeper of them if
// it was chosen. All methods are safe for concurrent use.
type Ledger struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	lifecycle turn.Turn // taken while a keeper starts or stops

	mu      sync.Mutex
	keeper  *keeper // nil: this host keeps nothing
	cluster netmap.ClusterID
	known   []netmap.HostID // keepers as last heard, for hosts that are none
	leader  Peer            // as last heard
	heardOf uint64          // the greatest generation of the ledger that was heard of
	level   int             // the cluster's feature level as last heard; it never falls
	closed  bool
	fault   error // why this host keeps nothing though it should
	// doubtful: whether the log on the disk is this host's own is still being asked.
	doubtful bool

	opening sync.WaitGroup
	leaving leavers
	trusted *trusted
	// dismissing: whether this keeper is one still is being asked.
	dismissing atomic.Bool
	asking     asking // requests under way
	consent    consent
	elsewhere  chan struct{} // a place for each question whether a host is still where it was
}

// Open starts the keeper if this host was one when it stopped, and serves the
// requests of others. It waits for nobody.
func Open(cfg Config) (*Ledger, error) {
	cfg = cfg.filled()
	if cfg.Self.IsZero() || cfg.Dir == "" || cfg.Underlay == nil {
		return nil, errors.New("ledger: Config needs Self, Dir and Underlay")
	}
	l := &Ledger{cfg: cfg, log: cfg.Log, cluster: cfg.Cluster, lifecycle: turn.New(), elsewhere: make(chan struct{}, startAtOnce)}
	l.trusted = &trusted{cfg: &l.cfg, log: cfg.Log, host: l, keepers: cfg.Trusted}
	l.asking.init()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if cfg.Copied != nil && !cfg.Cluster.IsZero() && raftlog.Exists(cfg.Dir) {
		l.doubtful = true
		l.cfg.Underlay.Handle(requestDo, l.handleDo)
		l.opening.Go(l.reopenOwn)
		return l, nil
	}
	if err := l.reopen(); err != nil {
		l.cancel()
		return nil, err
	}
	l.serve(true)
	return l, nil
}

// reopenOwn is reopen for a log that may be a copy of another machine's. Until that is known,
// this host does not say whether it keeps the ledger.
func (l *Ledger) reopenOwn() {
	copied := l.cfg.Copied(l.ctx)
	if l.ctx.Err() != nil {
		return
	}
	var err error
	if copied {
		l.log.Error("ledger: another machine runs as this host: its log is left to that one")
		_, err = Forget(l.cfg.Dir)
	} else {
		err = l.reopen()
	}
	if err != nil {
		l.faulted(err)
	}
	l.mu.Lock()
	l.doubtful = false
	l.mu.Unlock()
	l.serve(true)
}

func (l *Ledger) isDoubtful() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubtful
}

func (l *Ledger) publish(d Decision) {
	if d.Cluster.IsZero() {
		return // a host asked before the founder did, and was refused
	}
	l.mu.Lock()
	if l.cluster.IsZero() {
		l.cluster = d.Cluster
	}
	l.mu.Unlock()
	l.cfg.OnChange(d)
}

// Close stops serving and keeping. Requests under way end with an error.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.opening.Wait()
	l.serve(false)
	defer l.lifecycle.Wait()()
	if k := l.kept(); k != nil {
		return k.stop()
	}
	return nil
}

// Found begins a cluster with this host as its only keeper and first member. The
// ranges are those of the founder; without an IPv6 one the cluster gets a /48 of
// its own. Found is safe to repeat with the same id; a host that keeps another
// cluster's ledger refuses (Foreign).
func (l *Ledger) Found(ctx context.Context, cluster netmap.ClusterID, ranges []netip.Prefix) (state.Reply, error) {
	return l.FoundTogether(ctx, founding.Plan{Cluster: cluster, Keepers: []founding.Keeper{{ID: l.cfg.Self, Addr: l.cfg.Addr}}, Ranges: ranges})
}

// FoundTogether carries out a plan on one of its first keepers, and ends when the
// cluster exists. It is safe to repeat; a keeper of this cluster goes on with the
// log that it has.
func (l *Ledger) FoundTogether(ctx context.Context, p founding.Plan) (state.Reply, error) {
	if p.Cluster.IsZero() {
		return state.Reply{}, errors.New("ledger: a cluster needs an id")
	}
	if known := l.Cluster(); !known.IsZero() && known != p.Cluster {
		return state.Reply{}, netmap.Refuse(netmap.Foreign, "this host belongs to cluster %s and cannot found cluster %s; to move it, run weft cleanup on it and start it with WEFT_JOIN naming a host of the other", known, p.Cluster)
	}
	if l.kept() == nil && !p.Keeps(l.cfg.Self) {
		return state.Reply{}, errors.New("ledger: this host is none of the first keepers")
	}
	if err := l.keep(p.Cluster, 1, peersOf(p.Keepers)); err != nil {
		return state.Reply{}, err
	}
	found := state.Command{Kind: state.KindFound, Host: l.cfg.Self, Start: l.cfg.Start, Nonce: l.cfg.Nonce, Found: &state.Found{Cluster: p.Cluster, Ranges: p.Ranges}}
	if err := l.decideHere(ctx, found); err != nil {
		return state.Reply{}, err
	}
	return l.Admit(ctx)
}

// decideHere waits until this keeper leads and founds, or hears that another did.
func (l *Ledger) decideHere(ctx context.Context, found state.Command) error {
	ctx, cancel := context.WithTimeout(ctx, doLimit)
	defer cancel()
	for {
		if k := l.kept(); k != nil && k.machine.facts().cluster == found.Found.Cluster {
			return nil
		}
		o, err := l.local(ctx, found, netip.Addr{})
		switch {
		case err != nil:
			return err
		case o.Reply != nil:
			return o.Reply.Err()
		case !turn.Sleep(ctx, firstPause) || l.ctx.Err() != nil:
			return l.noQuorum(map[netmap.HostID]string{})
		}
	}
}

// Admit makes this host a member, or shows this start of it. Do does so by itself
// before the first command; to call it early shows early that a host is refused.
func (l *Ledger) Admit(ctx context.Context) (state.Reply, error) {
	r, err := l.decide(ctx, state.Command{Kind: state.KindAdmit, Admit: &state.Admit{Name: l.cfg.Name, Addr: l.cfg.Addr, Level: state.Level, Earlier: l.cfg.Earlier}})
	if err == nil {
		l.asking.setAdmitted()
	}
	return r, err
}

// Cluster returns the cluster that this host belongs to, zero if it knows none yet.
func (l *Ledger) Cluster() netmap.ClusterID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cluster
}

// Whole returns everything that the ledger has decided, as this keeper knows it; false on a
// host that is no keeper.
func (l *Ledger) Whole() (Decision, bool) {
	if k := l.kept(); k != nil {
		return k.machine.whole(), true
	}
	return Decision{}, false
}

// ServerAddr implements raft.ServerAddressProvider. It returns where a keeper is now, not where
// it was when it became one.
func (l *Ledger) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	host, err := netmap.ParseID(string(id))
	if err != nil {
		return "", fmt.Errorf("ledger: %w", err)
	}
	if addr := l.cfg.addrOf(host); addr.IsValid() {
		return serverAddress(host, addr), nil
	}
	if k := l.kept(); k != nil {
		// GetConfiguration does not wait for raft's main goroutine.
		for _, p := range k.peers() {
			if p.ID == host {
				return serverAddress(p.ID, p.Addr), nil
			}
		}
	}
	return "", fmt.Errorf("ledger: the address of host %s is not known", host.Short())
}

// Forget sets aside the log of an identity that this host has given up, and returns where the
// log is now, empty if there was none. No Ledger may be open on the directory. Repeating it,
// also after a crash in the middle, changes nothing.
func Forget(dir string) (kept string, err error) {
	if raftlog.Exists(dir) {
		kept = dir + raftlog.OldDir
	}
	return kept, raftlog.SetAside(dir)
}
