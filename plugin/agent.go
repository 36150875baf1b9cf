package plugin

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/discover"
	"github.com/weftnet/weft/driver"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/history"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/replicate"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/store"
	"github.com/weftnet/weft/turn"
	"github.com/weftnet/weft/underlay"
)

// Kernel is the data plane of this host. All methods are safe for concurrent use.
type Kernel interface {
	// Underlay is this host's address for the others and the MTU of its device. The
	// current address, unless it is zero, stays as long as it can; only one of its family
	// replaces it. The error is linux.ErrNoAddress where the host has none at all.
	Underlay(current netip.Addr) (netip.Addr, int, error)
	// WatchUnderlay calls changed whenever Underlay may answer otherwise than before,
	// until ctx ends.
	WatchUnderlay(ctx context.Context, changed func())
	// Routes are the prefixes that the host routes already, Weft's own left out.
	Routes() []ipam.Route
	// Set makes the kernel equal to the state; repeating it changes nothing. It
	// answers how many operations that took.
	Set(ctx context.Context, s datapath.State) (int, error)
	// Plug makes one port beside Set and names the interface for Docker.
	Plug(ctx context.Context, d datapath.Device, p datapath.Port) (string, error)
	// Unplug removes a port; an unknown one is no error.
	Unplug(ctx context.Context, id netmap.EndpointID) error
}

// Config says what an agent is made of. The simulation gives it a kernel, a
// network and no Docker.
type Config struct {
	Settings settings.Settings
	Version  string
	Kernel   Kernel
	Docker   replicate.Docker // nil: names and replicas are not kept
	Network  underlay.Network // nil: the system's
	OnCall   func(pid int32)  // hears of every call's process, which is dockerd; may be nil
	OnReturn func()           // hears that the host goes on as another one, between two agents; may be nil
	// Clocks reads the machine's clocks; nil: the kernel's. The simulation has its own.
	Clocks func() (lease.Moment, error)
	// Volatile is a directory that outlives the agent and that a reboot empties; empty:
	// there is none.
	Volatile string
	Rooms    Rooms // nil ones: the real ones
	Log      *slog.Logger

	calls func() rpc.Counters // of Docker's calls; nil: nobody counts them
}

// Agent is the one process per host. All methods are safe for concurrent use.
type Agent struct {
	cfg      Config
	self     netmap.HostID
	identity store.Identity
	noted    birth // of this start, in a directory that a reboot empties
	moved    bool  // the machine was started since, or is another one: the disk may be a copy
	log      *slog.Logger

	store  Store
	port   Port
	peers  *discover.Peers
	gossip Gossip
	ledger Ledger
	ipam   *ipam.IPAM
	attach *attach.Attachments
	driver *driver.Driver
	// attaching has requests of others than Docker about one network take turns.
	attaching *turn.Keyed
	clocks    *lease.Clocks
	lease     *lease.Lease

	together *ledger.Founding // with other newcomers
	shown    showing          // to a recovered ledger
	asked    askedKeepers     // about this host, by what is said
	history  *history.History
	replicas *replicate.Replicator
	restarts *replicate.Restarts // of containers
	leaving  leaving

	member   chan struct{} // closed once this host is a member
	ended    chan struct{} // closed once this agent is to be followed by another one
	end      sync.Once     // closes it
	kick     chan struct{} // wakes the reconciling loop
	look     chan struct{} // has that loop look at the underlay
	tasks    sync.WaitGroup
	stop     context.CancelFunc
	began    time.Time
	founding netmap.ClusterID // of the cluster that this host founds, if it does

	mu       sync.Mutex
	fact     netmap.HostFact // its Keeper and MTU change, guarded by mu
	told     bool            // the first announcement of this start was made
	datapath datapathHealth
	problems map[string]string           // by topic
	clones   map[netmap.HostID]time.Time // identities that two agents used, and when that was seen last
	rival    rival
	names    map[netmap.EndpointID]string // containers of this host's endpoints
}

// Open opens every room. It waits for no peer and not for Docker; whatever fails
// here is told at once, because nothing would work without it.
func Open(cfg Config) (a *Agent, err error) {
	cfg.Rooms = cfg.Rooms.filled()
	a = &Agent{cfg: cfg, log: cfg.Log, began: time.Now(), leaving: leaving{busy: turn.New()}, attaching: turn.NewKeyed(), member: make(chan struct{}), ended: make(chan struct{}), kick: make(chan struct{}, 1), look: make(chan struct{}, 1), problems: map[string]string{}, clones: map[netmap.HostID]time.Time{}, names: map[netmap.EndpointID]string{}, restarts: replicate.NewRestarts()}
	_, _ = rand.Read(a.founding[:]) // never fails (crypto/rand)
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	opened := a // a return of nil sets a first
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	for _, open := range []func() error{a.openStore, a.openPort, a.openPeers, a.openGossip, a.openDocker, a.openLedger, a.openFounding} {
		if err := open(); err != nil {
			return nil, err
		}
	}
	if err := a.announceSelf(); err != nil {
		return nil, err
	}
	for _, task := range []func(context.Context){a.watchUnderlay, a.belong, a.reconcile, a.settle, a.history.Run, a.replicas.Run, a.followRestarts, a.regain} {
		a.tasks.Go(func() { task(ctx) })
	}
	return a, nil
}

func (a *Agent) openStore() (err error) {
	a.store, err = a.cfg.Rooms.Store(a.cfg.Settings.HostPath(a.cfg.Settings.State))
	if err != nil {
		return err
	}
	a.clocks = a.openClocks()
	if a.lease, err = lease.Open(a.store.Bucket("lease"), a.clocks); err != nil {
		return err
	}
	if err := a.becomeNew(); err != nil {
		return err
	}
	a.identity = a.store.Identity()
	a.self = a.identity.Host
	a.checkBirth()
	return nil
}

func (a *Agent) openPort() error {
	at, err := a.findPlace()
	if err != nil {
		return err
	}
	a.fact = netmap.HostFact{
		Name: a.cfg.Settings.Name, Underlay: netip.AddrPortFrom(at.Addr, a.cfg.Settings.Port),
		MTU: at.MTU, Version: a.cfg.Version,
	}
	listen := netip.AddrPortFrom(netip.IPv6Unspecified(), a.cfg.Settings.Port)
	if at.Addr.Is4() {
		listen = netip.AddrPortFrom(netip.IPv4Unspecified(), a.cfg.Settings.Port)
	}
	a.port, err = a.cfg.Rooms.Port(underlay.Config{Listen: listen, Source: at.Addr, Network: a.cfg.Network, Log: a.log})
	return err
}

func (a *Agent) openGossip() (err error) {
	a.gossip, err = a.cfg.Rooms.Gossip(gossip.Config{
		Host: a.self, Start: a.identity.Start, Nonce: a.identity.Nonce,
		Cluster: a.store.Cluster(), Name: a.cfg.Settings.Name, Advertise: a.fact.Underlay, Peers: a.peers.Addrs, Lone: a.peers.None(),
		Underlay: a.port, Packets: a.port.Packets(), Handle: func(name string, h gossip.Handler) { a.port.Handle(name, h) },
		Disk: a.store.Bucket("gossip"), OnClone: a.foundClone, Log: a.log,
	})
	return err
}

func (a *Agent) openLedger() (err error) {
	var copied func(context.Context) bool
	if a.moved {
		copied = a.copied
	}
	a.ledger, err = a.cfg.Rooms.Ledger(ledger.Config{
		Self: a.self, Start: a.identity.Start, Nonce: a.identity.Nonce, Lineage: a.lineage(),
		Name: a.fact.Name, Addr: a.fact.Underlay, Cluster: a.store.Cluster(),
		Dir:         a.ledgerDir(),
		RemoveAfter: a.cfg.Settings.RemoveAfter,
		Trusted:     a.loadKeepers(), OnTrusted: a.keepKeepers, Fenced: a.lease.Fenced, Named: a.namedHosts,
		Underlay: a.port, Members: a.ledgerMembers, OnChange: a.publish, OnKeeper: a.keeps, Facts: a.ledgerFacts, Held: a.heldBy, Copied: copied, Log: a.log,
	})
	return err
}

func (a *Agent) openDocker() (err error) {
	a.attach, err = attach.New(attach.Config{Networks: a, Addresses: a, Facts: a, Ports: a, Disk: a.store.Bucket("attach")})
	if err != nil {
		return err
	}
	a.driver = driver.New(a.attach.Of(netmap.OwnerDocker), a)
	a.ipam, err = ipam.New(ipam.Config{
		Decisions: a, Disk: a.store.Bucket("ipam"), Holder: a.holder, Released: a.attach.Of(netmap.OwnerDocker).Released, Routes: a.cfg.Kernel.Routes, Allowed: a.mayHandOut, Facts: a.word,
		Returning: func() []string { return a.restarts.Returning(time.Now()) },
		Networks:  a.networkIDs,
		Problem:   func(err error) { a.log.Warn("addresses", "err", err) },
	})
	if err != nil {
		return err
	}
	a.port.Handle(cedeRequest, a.serveCede)
	a.port.Handle(whoRequest, a.serveWho)
	if err := a.openHistory(); err != nil {
		return err
	}
	a.port.Handle(yieldRequest, a.serveYield)
	return a.openReplicas()
}

// Routes are the methods of both plugin protocols.
func (a *Agent) Routes() map[string]rpc.Handler {
	routes := a.driver.Routes()
	maps.Copy(routes, a.ipam.Routes())
	return routes
}

// Close ends every room, the last opened first. It does not leave the cluster: a
// restart must not make the others forget this host.
func (a *Agent) Close() error {
	a.stop()
	var errs []error
	if a.ipam != nil {
		a.ipam.Close()
	}
	if a.ledger != nil {
		errs = append(errs, a.ledger.Close())
	}
	if a.gossip != nil {
		errs = append(errs, a.gossip.Close())
	}
	if a.port != nil {
		errs = append(errs, a.port.Close())
	}
	a.tasks.Wait()
	if a.store != nil {
		a.noteEnd()
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}

// firstMeeting is how long a host that joins may look for its peers before that
// counts as a fault.
const firstMeeting = 5 * time.Second

// problem keeps the newest sentence on a topic for `weft status`; an empty one
// means that it is over. A new sentence is logged once.
func (a *Agent) problem(topic, sentence string) {
	a.mu.Lock()
	old := a.problems[topic]
	if sentence == "" {
		delete(a.problems, topic)
	} else {
		a.problems[topic] = sentence
	}
	a.mu.Unlock()
	if sentence == "" || sentence == old {
		return
	}
	level := slog.LevelError
	if topic == "membership" && (time.Since(a.began) < firstMeeting || a.expects() && a.store.Cluster().IsZero()) {
		level = slog.LevelInfo // a peer that is about to answer is no fault, nor is one that is about to be started
	}
	a.log.Log(context.Background(), level, sentence, "topic", topic)
}
