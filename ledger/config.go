package ledger

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Underlay is the hosts' own network, as far as the ledger needs it.
type Underlay interface {
	Stream(kind byte) net.Listener
	Dial(ctx context.Context, kind byte, to netip.AddrPort) (net.Conn, error)
	Handle(name string, h func(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error))
	Call(ctx context.Context, to netip.AddrPort, name string, body []byte) ([]byte, error)
}

// Member is a host as the gossip knows it.
type Member struct {
	ID     netmap.HostID
	Name   string
	Addr   netip.AddrPort // underlay
	Alive  bool
	Keeper bool // says that it keeps the ledger
}

// Config says who this host is and whom it can ask.
type Config struct {
	Self    netmap.HostID
	Start   uint64 // start number and nonce of this agent
	Nonce   uint64
	Earlier []state.Incarnation // earlier starts of this disk
	Name    string
	Addr    netip.AddrPort   // where the other hosts reach this one
	Cluster netmap.ClusterID // zero: not a member of any yet
	Dir     string           // of this package's own, made when the host becomes a keeper
	// RemoveAfter is how long after the end of its lease an unreachable host is
	// removed for good, while this host leads; 0: never.
	RemoveAfter time.Duration

	Underlay Underlay
	// Members is the gossip's present view, with or without this host. It must
	// not block and may be called at any time from any goroutine.
	Members func() []Member
	// OnChange is called on keepers for every applied command, in order of index,
	// from one goroutine at a time; after a restart from a snapshot the first call
	// has everything. The first calls may come before Open returns. It must not
	// block for long nor call the Ledger.
	OnChange func(Decision)
	// OnKeeper is called, from one goroutine at a time, when the host becomes or
	// ceases to be a keeper. It must not block nor call the Ledger.
	OnKeeper func(bool)
	// Facts are what this host was told of the ledger's decisions. Like Members, and
	// not to be called from OnChange. Nil: nothing.
	Facts func() Facts
	// Copied is asked before the log on the disk of a member is used. It may take some
	// seconds, and true says that another machine runs as this host: then the log is a
	// copy, lacks what that one acknowledged since, must not vote, and is forgotten.
	// Nil: the log is this host's own.
	Copied func(ctx context.Context) bool
	// Trusted are the keepers that this host believed when it stopped, and OnTrusted is
	// called with those that it believes from now on, to be written to disk. It must not
	// call the Ledger. Nil: they are forgotten.
	Trusted   []Peer
	OnTrusted func([]Peer)
	// Fenced reports whether the ledger refuses this host, which then says so to those that
	// ask it. Named are the addresses that the operator named, asked where none of the
	// trusted keepers keeps the ledger any more. Both like Members. Nil: no, and none.
	Fenced func() bool
	Named  func(context.Context) []netip.AddrPort
	// Held are the addresses that a host's endpoints were last known to hold. Like
	// Members. Nil: nobody knows.
	Held func(netmap.HostID) []netip.Addr
	Log  *slog.Logger // nil: silent
}

func (c Config) filled() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.OnChange == nil {
		c.OnChange = func(Decision) {}
	}
	if c.OnKeeper == nil {
		c.OnKeeper = func(bool) {}
	}
	if c.Members == nil {
		c.Members = func() []Member { return nil }
	}
	if c.Held == nil {
		c.Held = func(netmap.HostID) []netip.Addr { return nil }
	}
	if c.Facts == nil {
		c.Facts = func() Facts { return Facts{} }
	}
	return c
}

// addrOf returns the present address of a host by the gossip, zero if it is not known.
func (c *Config) addrOf(id netmap.HostID) netip.AddrPort {
	if id == c.Self {
		return c.Addr
	}
	for _, m := range c.Members() {
		if m.ID == id {
			return m.Addr
		}
	}
	return netip.AddrPort{}
}

// places returns where a peer may be: its address by the gossip and the address that somebody
// named. They differ after the peer moved, and while a copy of it runs on another machine: of
// the two machines the one that leads must be found, even by the other one.
func (c *Config) places(p Peer) []Peer {
	now := Peer{ID: p.ID, Addr: c.current(p)}
	if p.Addr == now.Addr || !p.Addr.IsValid() {
		return []Peer{now}
	}
	return []Peer{now, {ID: p.ID, Addr: p.Addr}}
}

// current returns the present address of a peer, or the address that somebody named if the
// gossip does not know it.
func (c *Config) current(p Peer) netip.AddrPort {
	if now := c.addrOf(p.ID); now.IsValid() {
		return now
	}
	return p.Addr
}

// announced returns the hosts that say that they keep the ledger.
func (c *Config) announced() (out []Peer) {
	for _, m := range c.Members() {
		if m.Keeper {
			out = append(out, Peer{ID: m.ID, Addr: m.Addr, Voter: true})
		}
	}
	return out
}
