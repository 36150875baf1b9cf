// Package member is this host's part in the cluster: it joins or founds one, renews the
// host's lease, and ends its right to hand out addresses when it was removed, has left, or
// runs from an older copy of its disk. It resets the host's identity where that is needed,
// and reclaims under the new identity what the containers had. Every decision of the ledger
// that this host asks for goes through Decide.
package member

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store"
	"github.com/weftnet/weft/turn"
)

// Store keeps this host's identity and cluster on disk.
type Store interface {
	Identity() store.Identity
	Acknowledge(start uint64) error
	Cluster() netmap.ClusterID
	SetCluster(id netmap.ClusterID) error
	// SkipTo makes the next start begin above a number.
	SkipTo(start uint64) error
	// NewIdentity replaces this host's identity. It stays in its cluster.
	NewIdentity() (store.Identity, error)
}

// Disk is one bucket of the store. Commit returns when it is synced.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Gossip has the facts, and the other hosts that are there.
type Gossip interface {
	follow.Source
	Removed(host netmap.HostID) bool
	Synced() bool
	Members() []gossip.Member
	Twin() (gossip.Member, bool)
	WaitDecided(ctx context.Context, index uint64) error
	SetCluster(id netmap.ClusterID)
	Leave() error
}

// Ledger asks the cluster for decisions.
type Ledger interface {
	Do(ctx context.Context, cmd state.Command) (state.Reply, error)
	Admit(ctx context.Context) (state.Reply, error)
	Found(ctx context.Context, cluster netmap.ClusterID, ranges []netip.Prefix) (state.Reply, error)
	FoundTogether(ctx context.Context, p founding.Plan) (state.Reply, error)
	Recover(ctx context.Context, r ledger.Recovery) (ledger.Recovered, error)
	ObserveGeneration(generation uint64) error
	AskRemoved(ctx context.Context) (ledger.Answer, error)
	AskGeneration(ctx context.Context, heard uint64) (uint64, error)
	Vacate(ctx context.Context) error
	Cluster() netmap.ClusterID
	Status() ledger.Status
}

// IPAM has the subnets, blocks and addresses of this host.
type IPAM interface {
	Inventory() []ipam.PoolStock
	Outdated(facts func(subnet netip.Prefix) (ipam.SubnetFacts, bool)) (how string, err error)
	Unregistered() []netip.Prefix
	Unconfirmed() []netip.Addr
	Reregister(ctx context.Context, subnet netip.Prefix) error
	Reclaim(ctx context.Context, addr netip.Addr) error
	Evict(addr netip.Addr) error
}

// Attachments are the networks and endpoints of this host.
type Attachments interface {
	Networks() []attach.NetworkRecord
	Endpoints() []attach.EndpointRecord
	Holder(addr netip.Addr) (attach.EndpointRecord, bool)
	Rejoin(ctx context.Context, id string) error
	Evict(ctx context.Context, id netmap.EndpointID, name, why string) error
}

// Docker lists the containers on a network. It may be nil.
type Docker interface {
	Attachments(ctx context.Context, id, name string) ([]dockerapi.Attachment, error)
}

// Config says what a Member is made of. All functions are called concurrently.
type Config struct {
	Name   string         // of this host, for display
	Join   []string       // WEFT_JOIN; empty: this host founds a cluster
	Expect int            // how many hosts found a cluster together, or founding.All; 0: WEFT_EXPECT is not set
	Ranges []netip.Prefix // of a cluster that this host founds
	Port   uint16
	// Routes are those of the host; nil: it has none.
	Routes func() []ipam.Route

	Store     Store
	Bucket    func(name string) Disk
	LedgerDir string // which is moved away with an identity
	// Clocks reads the machine's clocks; nil: the kernel's.
	Clocks func() (lease.Moment, error)
	// Volatile is a directory that is kept when the agent restarts and emptied when the machine
	// does; empty: there is none.
	Volatile string

	// End has the agent closed and opened again. It may be called more than once.
	End func()
	// Announce announces an endpoint that runs here, if its addresses are this host's.
	Announce func(netmap.Endpoint)
	Changed  func()                         // is called after an endpoint was evicted
	NameOf   func(netmap.EndpointID) string // the name of an endpoint's container; empty: it is not known
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
	Log     *slog.Logger
}

// Cluster is how a Member reaches the other hosts.
type Cluster struct {
	At     netip.AddrPort // where the others reach this host
	Gossip Gossip
	Port   ledger.Underlay
	// Seeds returns the entries of WEFT_JOIN, each with the addresses that it stands for.
	Seeds func(ctx context.Context) map[string][]netip.AddrPort
}

// Holdings are what this host has of the cluster's addresses and networks.
type Holdings struct {
	IPAM        IPAM
	Attachments Attachments
	Docker      Docker
}

// Member is this host as a member of a cluster. Its exported methods are safe for concurrent
// use once Connect and Begin have returned; Open, Connect, Begin and Close are called in
// that order.
type Member struct {
	cfg      Config
	self     netmap.HostID
	identity store.Identity
	noted    incarnation // what IncarnationFile says about this start
	moved    bool        // the machine was booted since the last start, or is another one: the disk may be a copy
	clocks   *lease.Clocks
	lease    *lease.Lease
	founds   netmap.ClusterID // the cluster that this host founds, if it does

	cluster  Cluster
	own      Holdings
	ledger   Ledger
	together *founding.Founder // with other newcomers

	declared declaration  // to a recovered ledger
	asked    askedKeepers // whether this host was removed
	leaving  leaving
	admitted chan struct{} // closed once this host is a member

	mu      sync.Mutex
	trouble string                      // why this host is no member; empty: not known
	clones  map[netmap.HostID]time.Time // identities that two agents use, and when that was last seen
	newest  newerIncarnation
}

// Open reads this host's identity from disk. It first finishes a reset of the identity that was
// begun, and revokes the lease if the disk proves to be an older copy.
func Open(cfg Config) (*Member, error) {
	m := &Member{cfg: cfg, leaving: leaving{busy: turn.New()}, admitted: make(chan struct{}), clones: map[netmap.HostID]time.Time{}}
	_, _ = rand.Read(m.founds[:]) // never fails (crypto/rand)
	m.clocks = m.openClocks()
	var err error
	if m.lease, err = lease.Open(cfg.Bucket("lease"), m.clocks); err != nil {
		return nil, err
	}
	if err := m.finishReset(); err != nil {
		return nil, err
	}
	m.identity = cfg.Store.Identity()
	m.self = m.identity.Host
	m.checkIncarnation()
	return m, nil
}

// GossipConfig returns the part of the gossip's configuration that comes from this host's
// identity. The gossip reports clones to this Member.
func (m *Member) GossipConfig() gossip.Config {
	return gossip.Config{
		Host: m.self, Start: m.identity.Start, Nonce: m.identity.Nonce, Cluster: m.cfg.Store.Cluster(), Name: m.cfg.Name, OnClone: m.foundClone,
	}
}

// Connect gives a Member the means to talk with other hosts.
func (m *Member) Connect(c Cluster) {
	m.cluster = c
	c.Port.Handle(whoRequest, m.serveWho)
}

// LedgerConfig returns the part of the ledger's configuration that comes from this host's
// identity and its facts.
func (m *Member) LedgerConfig() ledger.Config {
	cfg := ledger.Config{
		Self: m.self, Start: m.identity.Start, Nonce: m.identity.Nonce, Earlier: m.earlier(),
		Name: m.cfg.Name, Addr: m.cluster.At, Cluster: m.cfg.Store.Cluster(), Dir: m.cfg.LedgerDir,
		Trusted: m.loadKeepers(), OnTrusted: m.keepKeepers, Fenced: m.lease.Fenced,
		Members: m.ledgerMembers, Facts: m.ledgerFacts, Held: m.heldBy,
	}
	if m.moved {
		cfg.Copied = m.copied
	}
	return cfg
}

// Begin gives a Member the ledger, and answers other hosts that found a cluster. The caller
// runs Join and Reclaim next.
func (m *Member) Begin(l Ledger, own Holdings) error {
	m.ledger, m.own = l, own
	return m.openFounding()
}

// Close notes on disk that this agent ends in order. Nothing may be written after that.
func (m *Member) Close() { m.noteEnd() }

// Self is this host's id.
func (m *Member) Self() netmap.HostID { return m.self }

// State returns founding, joining, ready or left.
func (m *Member) State() string {
	if m.HasLeft() {
		return "left"
	}
	select {
	case <-m.admitted:
		return "ready"
	default:
	}
	if (len(m.cfg.Join) == 0 || m.expects()) && m.cfg.Store.Cluster().IsZero() {
		return "founding"
	}
	return "joining"
}

// NotReady returns why this host is no member of a cluster, or may hand out no address; empty:
// it is one and may.
func (m *Member) NotReady() string {
	switch state := m.State(); {
	case state == "left":
		return m.departure()
	case m.leaving.now.Load():
		return "this host is leaving the cluster (weft host leave)"
	case state != "ready":
		return cmp.Or(m.whyNotYet(), "this host is "+state+" a cluster")
	}
	if _, _, err := m.lease.State(); err != nil {
		return err.Error()
	}
	return ""
}

// whyNotYet returns why the last attempt to become a member failed.
func (m *Member) whyNotYet() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

// problem shows a problem, and notes why this host is no member yet.
func (m *Member) problem(topic, sentence string) {
	if topic == "membership" {
		m.mu.Lock()
		m.trouble = sentence
		m.mu.Unlock()
	}
	m.cfg.Problem(topic, sentence)
}
