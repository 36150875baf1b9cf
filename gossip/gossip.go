package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/loglimit"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Gossip exchanges members and facts with other hosts. All methods are safe for concurrent
// use.
type Gossip struct {
	cfg       Config
	list      *memberlist.Memberlist
	transport *transport
	events    *eventQueue
	limited   *loglimit.Limiter
	stats     counters
	pace      pace
	identity  atomic.Pointer[meta]
	view      atomic.Pointer[netmap.View] // that facts has; stored under mu
	renew     chan struct{}               // the identity changed
	unsent    chan struct{}               // facts wait for the fan-out
	lacking   chan struct{}               // a log is wanted, or a pull ended
	unsynced  chan struct{}               // there may be somebody to catch up with
	slots     chan struct{}               // fetches under way

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	facts       *netmap.Map
	roster      *roster
	strangers   strangers // has a lock of its own, which is taken last
	out         outbox
	repair      repairs
	peers       peerBook
	silent      map[netip.AddrPort]bool // peers of which the log says that they do not answer
	refuse      refusals
	synced      bool
	subs        subscribers        // to Members and Synced
	factSubs    subscribers        // to what is in the View but its Decided
	decidedSubs subscribers        // to View.Decided
	dirty       map[netmap.ID]bool // logs to be written to disk
	// indexSaved is when the ledger's log was saved last because its index had moved.
	indexSaved time.Time
}

type counters struct {
	malformed, foreign, overflow, sent, sentBytes, received, gaps, pulls, pulledBytes atomic.Uint64
}

// Stats are counts since Start.
type Stats struct {
	Malformed   uint64 `json:"malformed"`    // datagrams and requests that could not be read
	Foreign     uint64 `json:"foreign"`      // of another cluster
	Overflow    uint64 `json:"overflow"`     // memberlist datagrams dropped because it was busy
	Sent        uint64 `json:"sent"`         // datagrams of ours
	SentBytes   uint64 `json:"sent_bytes"`   // in them
	Received    uint64 `json:"received"`     // datagrams of ours
	Gaps        uint64 `json:"gaps"`         // batches that came before something else did
	Pulls       uint64 `json:"pulls"`        // requests for facts sent
	PulledBytes uint64 `json:"pulled_bytes"` // in the answers
}

// pushPullEvery is how often memberlist compares all members with one other host, in clusters of
// up to 32 hosts; at 1,000 it is six times as long, and an exchange has 150 kB in each direction.
const pushPullEvery = 45 * time.Second

// pullSlots bounds how many fetches run at once.
const pullSlots = 32

// Start begins to look for peers and to listen. It does not wait for a peer. The host's
// own facts are not sent before the first Announce.
func Start(cfg Config) (*Gossip, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.filled()
	g := &Gossip{
		cfg: cfg, events: newEventQueue(), limited: loglimit.New(cfg.Log), facts: netmap.NewMap(cfg.Cluster),
		renew: make(chan struct{}, 1), unsent: make(chan struct{}, 1), slots: make(chan struct{}, pullSlots),
		lacking: make(chan struct{}, 1), unsynced: make(chan struct{}, 1), pace: pace{rate: paceRate, burst: paceBurst},
		roster: newRoster(Member{ID: cfg.Host, Name: cfg.Name, Addr: cfg.Advertise, Start: cfg.Start, Nonce: cfg.Nonce, Alive: true, Since: time.Now()}),
		refuse: refusals{}, subs: subscribers{}, factSubs: subscribers{}, decidedSubs: subscribers{}, silent: map[netip.AddrPort]bool{}, dirty: map[netmap.ID]bool{}, repair: newRepairs(),
	}
	g.identity.Store(&meta{Host: cfg.Host, Cluster: cfg.Cluster, Start: cfg.Start, Nonce: cfg.Nonce, Keeper: cfg.Keeper, Name: cfg.Name})
	if err := g.load(); err != nil {
		return nil, err
	}
	g.view.Store(g.facts.View())
	g.synced = g.cfg.Lone && len(g.peers.addrs) == 0
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.transport = newTransport(cfg, g.refuseStream)
	list, err := memberlist.Create(g.memberlistConfig())
	if err != nil {
		g.cancel()
		return nil, errors.Join(fmt.Errorf("gossip: memberlist does not start: %w", err), g.transport.Shutdown())
	}
	g.list = list
	g.serve()
	go g.readPackets() // ends with the port, see Close
	for _, task := range []func(){g.handleEvents, g.tellIdentity, g.fanOut, g.tellHeads, g.tellDigest, g.pullWanted, g.synchronise, g.rejoin, g.saveNowAndThen, g.tidy} {
		g.tasks.Go(task)
	}
	return g, nil
}

func (g *Gossip) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	d := delegate{g}
	c.Name = nodeName(g.cfg.Host, g.cfg.Nonce)
	c.Transport, c.Delegate, c.Events, c.Alive, c.Conflict = g.transport, d, d, d, d
	c.AdvertiseAddr, c.AdvertisePort = g.cfg.Advertise.Addr().String(), int(g.cfg.Advertise.Port())
	c.BindPort = c.AdvertisePort
	c.DelegateProtocolMin, c.DelegateProtocolVersion, c.DelegateProtocolMax = protocol.Oldest, protocol.Written, protocol.Newest
	c.EnableCompression = false // costs more than the small messages are worth
	c.HandoffQueueDepth = 8192
	c.UDPBufferSize = maxPacket
	c.TCPTimeout = 5 * time.Second
	c.PushPullInterval = pushPullEvery
	c.Logger = log.New(memberlistLog{g.limited}, "", 0)
	return c
}

func (g *Gossip) own() meta { return *g.identity.Load() }

// changeIdentity changes the identity that memberlist spreads about this host.
func (g *Gossip) changeIdentity(change func(*meta)) {
	next := g.own()
	change(&next)
	g.identity.Store(&next)
	turn.Poke(g.renew)
}

// updateWait is how long memberlist may take to send a new identity.
const updateWait = 5 * time.Second

// tellIdentity has memberlist spread the changed identity. Close does not wait for it, as
// memberlist waits until it was sent often enough.
func (g *Gossip) tellIdentity() {
	for g.wait(g.renew) {
		told := make(chan error, 1)
		go func() { told <- g.list.UpdateNode(updateWait) }()
		select {
		case err := <-told:
			if err != nil {
				g.cfg.Log.Debug("gossip: nobody heard of the new identity yet", "err", err)
			}
		case <-g.ctx.Done():
		}
	}
}

// wait waits for a token in a channel. It returns false after Close.
func (g *Gossip) wait(c <-chan struct{}) bool {
	select {
	case <-c:
		return g.ctx.Err() == nil
	case <-g.ctx.Done():
		return false
	}
}

// run starts a task that Close waits for, unless Close came first. Under g.mu.
func (g *Gossip) run(task func()) bool {
	if g.closed {
		return false
	}
	g.tasks.Go(task)
	return true
}

// SetCluster is called when this host was admitted to a cluster, or founded it. From then on
// its facts are sent. Calling it again changes nothing.
func (g *Gossip) SetCluster(id netmap.ClusterID) {
	g.mu.Lock()
	if g.facts.Cluster() == id {
		g.mu.Unlock()
		return
	}
	g.facts.SetCluster(id)
	g.view.Store(g.facts.View())
	g.changeIdentity(func(m *meta) { m.Cluster = id })
	g.out = outbox{lead: g.out.lead, published: g.out.published}
	for _, origin := range g.facts.Origins() {
		g.dirty[origin] = true
	}
	g.synced = g.cfg.Lone && len(g.roster.latest) == 0
	g.factSubs.notify()
	g.decidedSubs.notify()
	g.notify()
	g.mu.Unlock()
	turn.Poke(g.unsynced)
	turn.Poke(g.unsent)
}

// SetKeeper tells the other hosts whether this host votes on the ledger.
func (g *Gossip) SetKeeper(keeper bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changeIdentity(func(m *meta) { m.Keeper = keeper })
}

// Stats returns a copy of the counters.
func (g *Gossip) Stats() Stats {
	s := &g.stats
	return Stats{
		Malformed: s.malformed.Load(), Foreign: s.foreign.Load(), Overflow: s.overflow.Load(),
		Sent: s.sent.Load(), SentBytes: s.sentBytes.Load(), Received: s.received.Load(),
		Gaps: s.gaps.Load(), Pulls: s.pulls.Load(), PulledBytes: s.pulledBytes.Load(),
	}
}

// Leave announces that this host is gone for good. Without it, as at a restart, the other hosts
// keep what they know about it. Close comes after it.
func (g *Gossip) Leave() error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return nil
	}
	if err := g.list.Leave(updateWait); err != nil {
		return fmt.Errorf("gossip: the other hosts do not know that this host left: %w", err)
	}
	return nil
}

// Close stops without an announcement and writes what is known to disk. The reader of datagrams
// ends when the caller closes the underlay's port, which should come next.
func (g *Gossip) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	for _, name := range []string{callPull, callHeads} {
		g.cfg.Handle(name, nil)
	}
	err := g.list.Shutdown()
	g.tasks.Wait()
	return errors.Join(err, g.save())
}

// readPackets reads datagrams until the port closes.
func (g *Gossip) readPackets() {
	buf := make([]byte, maxDatagram+1) // a longer one shows
	for {
		n, from, err := g.cfg.Packets.ReadFrom(buf)
		if g.ctx.Err() != nil {
			return
		}
		if err != nil {
			if !turn.Sleep(g.ctx, 50*time.Millisecond) {
				return
			}
			continue
		}
		g.receive(buf[:n], from)
	}
}

// receive handles one datagram. The caller reuses buf.
func (g *Gossip) receive(buf []byte, from netip.AddrPort) {
	p, err := decodePacket(buf)
	switch {
	case err != nil:
	case p.Type == packetMemberlist:
		if err = checkMessage(p.Body); err != nil {
			break
		}
		if !g.transport.deliver(append([]byte(nil), p.Body...), from) {
			g.stats.overflow.Add(1)
		}
		return
	case p.Cluster.IsZero() || p.Cluster != g.own().Cluster:
		g.stats.foreign.Add(1)
		return
	default:
		g.stats.received.Add(1)
		err = g.receiveFacts(p, from)
	}
	if err != nil {
		g.stats.malformed.Add(1)
		g.limited.Warn("malformed "+from.Addr().String(), "gossip: a datagram was refused", "peer", from.String(), "err", err)
	}
}

// refuseStream counts and logs a stream of memberlist's that no agent opens.
func (g *Gossip) refuseStream(peer net.Addr, err error) {
	g.stats.malformed.Add(1)
	g.limited.Warn("malformed stream", "gossip: a stream was refused", "peer", peer.String(), "err", err)
}

func (g *Gossip) receiveFacts(p packet, from netip.AddrPort) error {
	switch p.Type {
	case packetBatch:
		b, err := netmap.DecodeBatch(p.Body)
		if err != nil {
			return err
		}
		if member := g.memberAt(from); !g.continues(b, from, member) {
			g.hint(b, member)
			return nil
		}
		return g.takeIn(b, true)
	case packetHeads:
		if len(p.Body) < 16 {
			return fmt.Errorf("gossip: heads of %d bytes: %w", len(p.Body), netmap.ErrMalformed)
		}
		heads, err := netmap.DecodeHeads(p.Body[16:])
		if err != nil {
			return err
		}
		g.compare(netmap.HostID(p.Body[:16]), heads)
		return nil
	case packetDigest:
		note, err := decodeDigestNote(p.Cluster, p.Body)
		if err != nil {
			return err
		}
		g.weigh(note)
		return nil
	}
	return fmt.Errorf("gossip: a datagram of type %q: %w", p.Type, netmap.ErrMalformed)
}
