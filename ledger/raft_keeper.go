package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/loglimit"
	"github.com/weftnet/weft/netmap"
)

// raft's pace. A leader that dies is replaced within some three seconds, inside
// the five that Docker waits for an answer; a machine that stalls for less than half a
// second loses nothing.
const (
	electionWait   = 1000 * time.Millisecond
	leaderLease    = electionWait            // the most that raft allows
	leaderPace     = 2 * electionWait        // a leader sends each keeper a heartbeat every 200 to 400 ms, raft's tenth of this
	commitWait     = 1000 * time.Millisecond // an idle leader repeats its commit index after once to twice this; the gossip has told the decision before
	rpcWait        = 2 * time.Second
	snapshotEvery  = 4096 // entries
	trailing       = 1024 // entries kept behind a snapshot, for keepers that lag
	enqueueWait    = time.Second
	membershipWait = 3 * time.Second
)

// keeper is a running raft with its log and streams.
type keeper struct {
	self    netmap.HostID
	cluster netmap.ClusterID
	// generation is that of the log. A log of an older one is never added to again.
	generation uint64
	dir        string
	log        *raftlog.Log
	machine    *machine
	raft       *raft.Raft
	running    atomic.Pointer[raft.Raft] // the same, for raft's own goroutines while it starts
	proposals  proposals
	layer      *layer
	trans      *guard
	invited    atomic.Pointer[invite] // nil once the log has come to where this host keeps it
	vouched    peerSet                // keepers by those that this host trusts, and not yet by its log
	cancel     context.CancelFunc
	done       chan struct{} // closed when the manager has ended
}

// startKeeper runs raft on a directory: with a new log of the first keepers if they are given,
// else with the log that is there, which may be empty until a leader sends one.
func (l *Ledger) startKeeper(cluster netmap.ClusterID, generation uint64, first []Peer) (*keeper, error) {
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	ctx, cancel := context.WithCancel(l.ctx)
	disk, err := raftlog.Open(l.cfg.Dir, cancel)
	if err != nil {
		cancel()
		return nil, err
	}
	k := &keeper{self: l.cfg.Self, dir: l.cfg.Dir, log: disk, cancel: cancel, done: make(chan struct{})}
	err = disk.Within(func() error {
		if err := errors.Join(k.claim(cluster, &cluster), k.claimGeneration(generation)); err != nil {
			return err
		}
		k.cluster = cluster
		if err := k.loadInvite(); err != nil {
			return err
		}
		k.machine = &machine{state: state.NewState(), publish: func(d Decision) { k.layer.recheck(); l.publish(d) }, leads: k.leads, held: l.cfg.Held, log: l.log}
		k.layer = l.newLayer(k, cluster)
		if err := k.startRaft(l, first); err != nil {
			return fmt.Errorf("ledger: raft does not start on %s: %w", l.cfg.Dir, err)
		}
		return nil
	})
	if err != nil {
		k.abandon()
		return nil, errors.Join(err, disk.Close())
	}
	go func() {
		newManager(l, k).run(ctx)
		close(k.done)
		if disk.Fault() != nil {
			l.stopOnFault(k)
		}
	}()
	return k, nil
}

var (
	keySelf       = []byte("weft-self")
	keyCluster    = []byte("weft-cluster")
	keyGeneration = []byte("weft-generation") // absent in the first one
)

// errEmptyLog means that a log was begun and nothing was ever written to it.
var errEmptyLog = errors.New("the log has never been used")

// claim records whose log this is, or refuses a log of another host or cluster. If cluster is
// zero, it reads the cluster from the log into known.
func (k *keeper) claim(cluster netmap.ClusterID, known *netmap.ClusterID) error {
	for _, c := range []struct {
		key  []byte
		want netmap.ID
		into *netmap.ID
		what string
	}{{keySelf, k.self, nil, "host"}, {keyCluster, cluster, known, "cluster"}} {
		b, err := k.log.Get(c.key)
		var have netmap.ID
		copy(have[:], b)
		switch {
		case errors.Is(err, raftlog.ErrNotFound) && !c.want.IsZero():
			err = k.log.Set(c.key, c.want[:])
		case err == nil && c.want.IsZero() && c.into != nil:
			*c.into = have
		case err == nil && have != c.want:
			return netmap.Refuse(netmap.Foreign, "the ledger in %s is of %s %s, not of %s; remove it if this host is to keep another", k.dir, c.what, have, c.want)
		}
		if err != nil && !errors.Is(err, raftlog.ErrNotFound) {
			return fmt.Errorf("ledger: %s: %w", k.dir, err)
		}
	}
	if known.IsZero() {
		return errEmptyLog
	}
	return nil
}

// claimGeneration reads the generation of the log, or records it in a new log.
func (k *keeper) claimGeneration(generation uint64) error {
	have, err := k.log.GetUint64(keyGeneration)
	switch {
	case err == nil:
		k.generation = have
	case !errors.Is(err, raftlog.ErrNotFound):
		return fmt.Errorf("ledger: %s: %w", k.dir, err)
	default:
		k.generation = max(generation, 1)
		if k.generation > 1 {
			return k.log.SetUint64(keyGeneration, k.generation)
		}
	}
	return nil
}

func (l *Ledger) newLayer(k *keeper, cluster netmap.ClusterID) *layer {
	self := greeting{cluster: raftClusterID(cluster, k.generation), from: l.cfg.Self, incarnation: state.Incarnation{Start: l.cfg.Start, Nonce: l.cfg.Nonce}, earlier: l.cfg.Earlier}
	return &layer{
		Listener: l.cfg.Underlay.Stream(StreamKind), underlay: l.cfg.Underlay, conns: map[net.Conn]*opened{},
		addr: serverAddress(l.cfg.Self, l.cfg.Addr), log: loglimit.New(l.log), self: self,
		fenced: func(g greeting, dialled bool) error { return k.machine.fenced(self, g, dialled) },
		admits: func(id netmap.HostID, from netip.Addr) error { return l.admits(k, id, from) },
		places: k.places,
	}
}

func (k *keeper) startRaft(l *Ledger, first []Peer) error {
	logger := hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, Output: lineLog{loglimit.New(l.log)}, DisableTime: true})
	snapshots, err := raftlog.Snapshots(k.dir, logger)
	if err != nil {
		return err
	}
	cache, err := raft.NewLogCache(512, k.log)
	if err != nil {
		return err
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = raft.ServerID(k.self.String()), logger
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = electionWait+time.Millisecond, electionWait+time.Millisecond, leaderLease
	cfg.CommitTimeout, cfg.SnapshotThreshold, cfg.TrailingLogs = commitWait, snapshotEvery, trailing
	cfg.BatchApplyCh = false // entries that wait together share a sync all the same, and none is queued where nobody answers it
	cfg.NoLegacyTelemetry = true
	if k.invited.Load() != nil {
		cfg.HeartbeatTimeout, cfg.ElectionTimeout = patience, patience
	}
	if k.machine.pending, err = raftlog.Preload(snapshots, k.log); err != nil {
		return err
	}
	k.trans = newGuard(l, k, raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: k.layer, MaxPool: 3, Timeout: rpcWait, Logger: logger, ServerAddressProvider: l,
	}))
	if len(first) > 0 {
		if err := raft.BootstrapCluster(cfg, cache, k.log, snapshots, k.trans, configurationOf(first)); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return err
		}
	}
	k.raft, err = raft.NewRaft(cfg, k.machine, cache, k.log, snapshots, k.trans)
	if err != nil {
		return err
	}
	k.running.Store(k.raft)
	k.electAlone()
	return nil
}

// configurationOf returns the same configuration for the same keepers in the same order, so
// that all of them begin with the same entry.
func configurationOf(voters []Peer) raft.Configuration {
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(v.ID.String()), Address: serverAddress(v.ID, v.Addr)})
	}
	return c
}

// electAlone lets the only keeper elect itself at once. A shorter timeout makes raft look at
// its timer (ReloadConfig), and nobody else could send a heartbeat.
func (k *keeper) electAlone() {
	servers := k.servers()
	if k.invited.Load() == nil && len(servers) == 1 && servers[0].ID == raft.ServerID(k.self.String()) {
		k.pace(electionWait) // else it takes a second longer
	}
}

// servers returns the newest configuration that this keeper knows, non-voters included.
func (k *keeper) servers() []raft.Server {
	r := k.running.Load()
	if r == nil {
		return nil
	}
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// invite records who asked a host to keep the ledger, and at which index.
type invite struct {
	By    Peer   `json:"by"`
	After uint64 `json:"after"` // the last entry of the inviter's log; the host is a keeper later
}

// behind reports whether this keeper's log ends before the host was invited. Such a log names
// former keepers. They may be gone, and this host may have been one of them, even the only one,
// before it lost its log.
func (k *keeper) behind() bool {
	i, r := k.invited.Load(), k.running.Load()
	if i == nil || r == nil {
		return i != nil
	}
	return r.AppliedIndex() <= i.After || !k.named() // it is named by an entry after that one
}

// named reports whether this keeper's newest configuration names it.
func (k *keeper) named() bool {
	return slices.ContainsFunc(k.servers(), func(s raft.Server) bool { return s.ID == raft.ServerID(k.self.String()) })
}

// current reports whether the log names the present keepers.
func (k *keeper) current() bool { return k.named() && !k.behind() }

// patience is how long a keeper that is behind waits for a leader, in effect forever. By its
// log it may be the only keeper, and would elect itself.
const patience = 10 * 365 * 24 * time.Hour

// pace sets after which time without a leader raft stands for election.
func (k *keeper) pace(wait time.Duration) {
	p := k.raft.ReloadableConfig()
	p.HeartbeatTimeout, p.ElectionTimeout = wait, wait
	_ = k.raft.ReloadConfig(p) // it is valid
}

// adjustPace makes a keeper that leads send half as many heartbeats as raft would. Only the
// keepers that follow wait for electionWait.
func (k *keeper) adjustPace() {
	switch now := k.raft.ReloadableConfig().HeartbeatTimeout; {
	case k.leads() && now < leaderPace:
		k.pace(leaderPace)
	case !k.leads() && now == leaderPace:
		k.pace(electionWait)
	}
}

// configured returns the address of a keeper as raft knows it. Raft keeps the first one,
// wherever the keeper moves (ServerAddr returns the present one), because raft v1.8 reads
// without a lock what another address would change (replication.go, updateLastAppended).
func (k *keeper) configured(m move) raft.ServerAddress {
	for _, s := range k.servers() {
		if s.ID == raft.ServerID(m.ID.String()) {
			return s.Address
		}
	}
	return serverAddress(m.ID, m.Addr)
}

func (k *keeper) leads() bool {
	r := k.running.Load()
	return r != nil && r.State() == raft.Leader
}

// abandon closes what belongs to a raft that did not start.
func (k *keeper) abandon() {
	k.cancel()
	if k.layer != nil {
		_ = k.layer.Close()
	}
	if k.trans != nil {
		_ = k.trans.Close() // ends what listens
	}
}

// stop stops raft and everything that belongs to it.
func (k *keeper) stop() error {
	k.cancel()
	k.proposals.end()
	err := k.trans.Close() // with all streams, so that no exchange with another keeper holds raft up
	err = errors.Join(err, k.raft.Shutdown().Error())
	<-k.done // its waits for raft have ended
	if err = errors.Join(err, k.log.Close()); err != nil {
		return fmt.Errorf("ledger: stop keeping: %w", err)
	}
	return nil
}

// lineLog writes raft's own lines to the log. What raft warns of, such as an election, is
// normal for it. Lines with the same text before their values share a limit, since whoever is
// at the other end of a stream can cause some of them.
type lineLog struct{ log *loglimit.Limiter }

// Write implements io.Writer.
func (w lineLog) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	level := slog.LevelDebug
	if strings.HasPrefix(line, "[ERROR]") {
		level = slog.LevelInfo
	}
	about, _, _ := strings.Cut(line, "=")
	w.log.Log(level, "raft "+about, "ledger: "+line)
	return len(b), nil
}

var _ io.Writer = lineLog{}
