package gossip

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// streamKind is the kind of memberlist's streams on the underlay's port.
const streamKind byte = 'g'

// Underlay is what this package needs of the port that all packages share. All methods
// must be safe for concurrent use.
type Underlay interface {
	// Stream is the listener for streams of a kind.
	Stream(kind byte) net.Listener
	// Dial opens a stream of a kind to another host and gives up when ctx ends.
	Dial(ctx context.Context, kind byte, to netip.AddrPort) (net.Conn, error)
	// Call asks another host and gives up when ctx ends.
	Call(ctx context.Context, to netip.AddrPort, name string, body []byte) ([]byte, error)
}

// Packets is the datagram side of the port. All datagrams belong to gossip.
type Packets interface {
	// ReadFrom fails for good once the port is closed.
	ReadFrom(b []byte) (int, netip.AddrPort, error)
	WriteTo(b []byte, to netip.AddrPort) (int, error)
}

// Handler answers another host's Call.
type Handler = func(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error)

// Disk keeps the addresses of peers and the last known facts, for a restart with no peer
// reachable. The package works correctly without them.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Config says who this host is and how it reaches others.
type Config struct {
	Host    netmap.HostID
	Start   uint64           // start number: greater than in every earlier start, from 1
	Nonce   uint64           // random per start
	Cluster netmap.ClusterID // zero: a newcomer that was not admitted yet
	Name    string           // display name
	Keeper  bool             // votes on the ledger

	Advertise netip.AddrPort // where others reach this host's port
	// Peers are where others may be; it is called for each try and may take some time.
	// Nil: nowhere.
	Peers func(ctx context.Context) []netip.AddrPort
	// Lone reports whether no peer is configured, so that there is no host to catch up with.
	Lone bool

	Underlay Underlay
	Packets  Packets
	// Handle serves requests of a name on the port; a nil Handler withdraws it.
	Handle func(name string, h Handler)

	Disk Disk // nil: nothing survives a restart
	// OnClone is called when two agents use one host id. It may call back into Gossip. For
	// the same two it is called again only after a while. Nil: they are only logged.
	OnClone func(Clone)
	Log     *slog.Logger // nil: silent
}

func (c Config) check() error {
	switch {
	case c.Host.IsZero() || c.Start == 0:
		return errors.New("gossip: needs a host id and a start number from 1")
	case !c.Advertise.IsValid() || c.Advertise.Addr().IsUnspecified() || c.Advertise.Port() == 0:
		return errors.New("gossip: no address that others could reach; set WEFT_ADVERTISE")
	case c.Underlay == nil || c.Packets == nil || c.Handle == nil:
		return errors.New("gossip: needs an underlay")
	}
	return nil
}

func (c Config) filled() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Peers == nil {
		c.Peers = func(context.Context) []netip.AddrPort { return nil }
	}
	if c.OnClone == nil {
		c.OnClone = func(Clone) {}
	}
	if c.Disk == nil {
		c.Disk = noDisk{}
	}
	c.Advertise = netip.AddrPortFrom(c.Advertise.Addr().Unmap(), c.Advertise.Port())
	return c
}

type noDisk struct{}

func (noDisk) Load() (map[string][]byte, error)          { return nil, nil }
func (noDisk) Commit(map[string][]byte, ...string) error { return nil }
