package plugin

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/consul"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/dataplane"
	"github.com/weftnet/weft/decide"
	"github.com/weftnet/weft/discover"
	"github.com/weftnet/weft/dns/containers"
	"github.com/weftnet/weft/dns/orders"
	"github.com/weftnet/weft/dns/resolver"
	"github.com/weftnet/weft/driver"
	"github.com/weftnet/weft/endpoints"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/history"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/member"
	"github.com/weftnet/weft/multicast"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/overlays"
	"github.com/weftnet/weft/presence"
	"github.com/weftnet/weft/replicate"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/secret"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/underlay"
)

// ErrNoCaller is the error of a Kernel that needs the mount namespace of dockerd, which has not
// called yet.
var ErrNoCaller = errors.New("docker has not called yet")

// Kernel is the data plane of this host. All methods are safe for concurrent use.
type Kernel interface {
	// Underlay returns this host's address for the others and the MTU of its device. It keeps
	// the current address, unless that is zero, as long as the host has it, and replaces it
	// only by one of the same family. The error is linux.ErrNoAddress where the host has none
	// at all.
	Underlay(current netip.Addr) (netip.Addr, int, error)
	// WatchUnderlay calls changed when the answer of Underlay may have changed, until ctx ends.
	WatchUnderlay(ctx context.Context, changed func())
	// Routes returns the prefixes that the host routes already, without Weft's own.
	Routes() []ipam.Route
	dataplane.Kernel
	// Plug makes one port at once, ahead of the next Set or Apply, and returns the name of the
	// interface for Docker.
	Plug(ctx context.Context, d datapath.Device, p datapath.Port) (string, error)
	// Restore makes a port again together with the interface that a container has lost.
	Restore(ctx context.Context, d datapath.Device, p datapath.Port, in linux.Inside) error
	// Unplug removes a port; an unknown one is no error.
	Unplug(ctx context.Context, id netmap.EndpointID) error
	// WhoHas returns the MAC at which an address answers on a network, zero if none does or this
	// host is not on it.
	WhoHas(ctx context.Context, vni netmap.VNI, addr netip.Addr) (netmap.MAC, error)
	presence.Host
}

// Docker is the Docker Engine of this host.
type Docker interface {
	replicate.Docker
	containers.Docker
	overlays.Docker
}

// Config says what an agent is made of. The simulations give it a kernel and a network of their
// own.
type Config struct {
	Settings settings.Settings
	Version  string
	Kernel   Kernel
	Docker   Docker // nil: names and replicas are not kept
	// Sandboxes finds the network namespaces of containers; nil: containers have Docker's names.
	Sandboxes *resolver.Host
	// InContainer is multicast.Config.Route; nil: the multicasts of containers take Docker's route.
	InContainer func(ns *netns.Namespace, mac netmap.MAC, groups bool) (name string, err error)
	// InHost runs a function that sees the host's files; nil: all functions do.
	InHost     func(fn func() error) error
	Network    underlay.Network // nil: the system's
	CheckPaths bool             // by TCP of the system
	OnCall     func(pid int32)  // is called with the process id of each caller, which is dockerd; may be nil
	OnReturn   func()           // is called between two agents of one process; may be nil
	// Clocks reads the machine's clocks; nil: the kernel's. The simulation has its own.
	Clocks func() (lease.Moment, error)
	// Volatile is a directory that is kept when the agent restarts and emptied when the machine
	// does; empty: there is none.
	Volatile string
	Deps     Deps // nil fields: the real ones
	Log      *slog.Logger

	calls func() rpc.Counters // of Docker's calls; nil: nobody counts them
}

// Agent is the one process per host. All methods are safe for concurrent use.
type Agent struct {
	cfg  Config
	self netmap.HostID
	log  *slog.Logger

	store                Store
	port                 Port
	secrets              []string // the IDs of those that this host has, for the report
	peers                *discover.Peers
	gossip               Gossip
	ledger               Ledger
	ipam                 *ipam.IPAM
	attach               *attach.Attachments
	driver               *driver.Driver
	member               *member.Member
	decider              *decide.Decider
	dataplane            *dataplane.Dataplane
	*endpoints.Endpoints // of others than Docker
	*orders.Orders       // of operators, about names

	history  *history.History
	replicas *replicate.Replicator
	restarts *replicate.Restarts // of containers
	names    *containers.Names
	resolver *resolver.Resolver
	consul   *consul.Registrar
	routes   *multicast.Routes
	overlays *overlays.Keeper
	presence *presence.Presence

	ended chan struct{} // closed when Run is to replace this agent
	end   func()        // closes it; it may be called more than once
	kick  chan struct{} // wakes reconcile
	moved atomic.Bool   // the underlay may have changed
	tasks sync.WaitGroup
	stop  context.CancelFunc
	began time.Time

	mu        sync.Mutex
	fact      netmap.HostFact   // its Keeper and MTU change, guarded by mu
	mtu       int               // of the underlay's device, bytes
	carries   int               // what all paths to other hosts do, bytes; 0: as the device
	announced bool              // the first announcement of this start was made
	problems  map[string]string // by topic
}

// Open opens every package that the agent is made of. It waits neither for another host nor for
// Docker. It returns every failure, since the agent would not work.
func Open(cfg Config) (a *Agent, err error) {
	cfg.Deps = cfg.Deps.filled()
	a = &Agent{cfg: cfg, log: cfg.Log, began: time.Now(), ended: make(chan struct{}), kick: make(chan struct{}, 1), problems: map[string]string{}, restarts: replicate.NewRestarts()}
	ctx, stop := context.WithCancel(context.Background())
	a.stop, a.end = stop, sync.OnceFunc(func() { close(a.ended) })
	opened := a // `return nil, err` sets a to nil
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	for _, open := range []func() error{a.openMember, a.openPort, a.openPeers, a.openGossip, a.openDocker, a.openLedger} {
		if err := open(); err != nil {
			return nil, err
		}
	}
	if err := a.announceSelf(); err != nil {
		return nil, err
	}
	sandboxes := func(ctx context.Context) {
		if a.cfg.Sandboxes != nil {
			a.cfg.Sandboxes.Watch(ctx, func() {
				a.resolver.Changed()
				a.routes.Changed()
			})
		}
	}
	restarts := func(ctx context.Context) { a.restarts.Follow(ctx, a.cfg.Docker) }
	for _, task := range []func(context.Context){a.watchUnderlay, a.member.Join, a.reconcile, a.finishDeletions, a.history.Run, a.replicas.Run, a.followNames, a.resolver.Follow, a.resolver.ServeContainers, a.resolver.ServeHost, sandboxes, a.routes.Run, restarts, a.member.Reclaim, a.presence.Run, a.consul.Run, a.overlays.Run, checkPaths(a)} {
		a.tasks.Go(func() { task(ctx) })
	}
	return a, nil
}

// openMember opens the disk and reads this host's identity.
func (a *Agent) openMember() (err error) {
	s := a.cfg.Settings
	if a.store, err = a.cfg.Deps.Store(s.HostPath(s.State)); err != nil {
		return err
	}
	if a.names, err = containers.OpenNames(a.store.Bucket("names")); err != nil {
		return err
	}
	a.member, err = member.Open(member.Config{
		Name: s.Name, Join: s.Join, Expect: s.Expect, Ranges: s.Ranges, Port: s.Port, Routes: a.cfg.Kernel.Routes,
		Store: a.store, Bucket: func(name string) member.Disk { return a.store.Bucket(name) },
		LedgerDir: filepath.Join(s.HostPath(s.State), "ledger"), Clocks: a.cfg.Clocks, Volatile: a.cfg.Volatile,
		End: a.end, Announce: a.Announce, Changed: a.wake, NameOf: a.names.Container, Problem: a.problem, Log: a.log,
	})
	if err == nil {
		a.self = a.member.Self()
	}
	return err
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
	a.mtu = at.MTU
	listen := netip.AddrPortFrom(netip.IPv6Unspecified(), a.cfg.Settings.Port)
	if at.Addr.Is4() {
		listen = netip.AddrPortFrom(netip.IPv4Unspecified(), a.cfg.Settings.Port)
	}
	keys, err := a.openKeys()
	if err != nil {
		return err
	}
	if keys != nil {
		a.secrets = keys.IDs()
		if keys.AcceptsNone() {
			a.secrets = append(a.secrets, secret.None)
		}
	}
	a.port, err = a.cfg.Deps.Port(underlay.Config{Listen: listen, Source: at.Addr, Network: a.cfg.Network, Keys: keys, Log: a.log})
	return err
}

func (a *Agent) openGossip() (err error) {
	cfg := a.member.GossipConfig()
	cfg.Advertise, cfg.Peers, cfg.Lone = a.fact.Underlay, a.peers.Addrs, a.peers.None()
	cfg.Underlay, cfg.Packets = a.port, a.port.Packets()
	cfg.Handle = func(name string, h gossip.Handler) { a.port.Handle(name, h) }
	cfg.Disk, cfg.Log = a.store.Bucket("gossip"), a.log
	if a.gossip, err = a.cfg.Deps.Gossip(cfg); err != nil {
		return err
	}
	a.dataplane = dataplane.New(dataplane.Config{
		Self: a.self, Kernel: a.cfg.Kernel, View: a.gossip.View, Local: a.local, NotYet: ErrNoCaller, Wake: a.wake,
		Problem: func(text string) { a.problem("datapath", text) }, Restore: func(ctx context.Context, ids []netmap.EndpointID) int { return a.routes.Restore(ctx, ids) },
	})
	a.member.Connect(member.Cluster{At: a.fact.Underlay, Gossip: a.gossip, Port: a.port, Seeds: a.peers.Seeds})
	return nil
}

func (a *Agent) openLedger() (err error) {
	cfg := a.member.LedgerConfig()
	cfg.RemoveAfter, cfg.Named = a.cfg.Settings.RemoveAfter, a.peers.Addrs
	cfg.Underlay, cfg.OnChange, cfg.OnKeeper, cfg.Log = a.port, a.publish, a.keeps, a.log
	if a.ledger, err = a.cfg.Deps.Ledger(cfg); err != nil {
		return err
	}
	return a.member.Begin(a.ledger, member.Holdings{IPAM: a.ipam, Attachments: a.attach, Docker: a.cfg.Docker})
}

func (a *Agent) openDocker() (err error) {
	a.decider = decide.New(decide.Config{
		Self: a.self, Replicate: a.cfg.Settings.Replicate, Member: a.member, Gossip: a.gossip, Port: a.port, NameOf: a.names.Container, WhoHas: a.cfg.Kernel.WhoHas,
		Creating: func(id netmap.NetworkID) bool { return a.replicas.Creating(id) },
	})
	entered := func() {
		a.resolver.Entered()
		a.routes.Changed()
	}
	a.attach, err = attach.New(attach.Config{Networks: a.decider, Addresses: a, Facts: a, Ports: a, Disk: a.store.Bucket("attach"), Entered: entered})
	if err != nil {
		return err
	}
	a.names.Keep(func(id netmap.EndpointID) bool {
		r, ok := a.attach.Endpoint(id)
		return ok && r.Joined
	})
	if err := a.openHistory(); err != nil {
		return err
	}
	a.openResolver()
	a.routes = newRoutes(a)
	a.driver = driver.New(a.attach.Of(netmap.OwnerDocker), a)
	a.ipam, err = ipam.New(ipam.Config{
		Decisions: a.decider, Disk: a.store.Bucket("ipam"), Holder: a.holder, Released: a.attach.Of(netmap.OwnerDocker).Released, Yield: yield(a), InUse: a.decider.InUse, Routes: a.cfg.Kernel.Routes, Allowed: a.member.MayHandOut, Facts: a.member.LedgerView,
		Returning: func() []string { return a.restarts.Returning(time.Now()) },
		Networks: func() (out []string) {
			for _, r := range a.attach.Networks() {
				out = append(out, r.ID)
			}
			return out
		},
		Problem: func(err error) { a.log.Warn("addresses", "err", err) },
	})
	if err != nil {
		return err
	}
	a.decider.Begin(a.ipam, a.attach)
	a.Endpoints = endpoints.New(others(a))
	a.presence = newPresence(a)
	a.overlays = newOverlays(a)
	return a.openReplicas()
}

// Routes returns the handlers of both plugin protocols.
func (a *Agent) Routes() map[string]rpc.Handler {
	routes := a.driver.Routes()
	maps.Copy(routes, a.ipam.Routes())
	return routes
}

// Close closes what Open opened, in reverse order. This host stays a member of the cluster, so
// the other hosts keep what they know about it.
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
	if a.member != nil {
		a.member.Close()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}

// Ended is closed when Run is to close this agent and open a new one: with another identity, a
// later start or another underlay address. The reason is on disk by then.
func (a *Agent) Ended() <-chan struct{} { return a.ended }

// firstMeeting is how long a host that joins may look for its peers before the log shows that
// as an error.
const firstMeeting = 5 * time.Second

// problem keeps the newest sentence on a topic for `weft status` and logs it once. An empty
// sentence removes the topic.
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
	expects := a.cfg.Settings.Expect != 0 && len(a.cfg.Settings.Join) > 0
	if topic == "membership" && (time.Since(a.began) < firstMeeting || expects && a.store.Cluster().IsZero()) {
		level = slog.LevelInfo // the peer may answer soon, or be started soon
	}
	a.log.Log(context.Background(), level, sentence, "topic", topic)
}
