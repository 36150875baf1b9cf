package plugin

import (
	"context"
	"net/netip"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/member"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store"
	"github.com/weftnet/weft/underlay"
)

// Store keeps what must survive: this host's identity, and one bucket for each package.
type Store interface {
	member.Store
	Bucket(name string) Bucket
	// Problem returns why the last write failed, or "".
	Problem() string
	Close() error
}

// Bucket is one package's part of the store.
type Bucket interface {
	ipam.Disk
	// ScanReverse visits the entries whose keys begin with a prefix, in descending order, until
	// visit returns false.
	ScanReverse(prefix string, visit func(key string, value []byte) bool) error
}

// Gossip exchanges facts with the other hosts.
type Gossip interface {
	member.Gossip
	Refused() []gossip.Refused
	Stats() gossip.Stats
	Announce(set map[netmap.Key]any, del []netmap.Key) error
	PublishDecisions(d gossip.Decisions) error
	SetKeeper(keeper bool)
	Close() error
}

// Ledger asks the cluster for decisions.
type Ledger interface {
	member.Ledger
	Announced(keepers []netmap.HostID)
	History(ctx context.Context, q state.Query) (state.Past, error)
	Close() error
}

// Port is the underlay port that all packages share.
type Port interface {
	ledger.Underlay
	Packets() *underlay.Packets
	Arrives(ctx context.Context, to netip.AddrPort, size, bytes int) bool
	Stats() underlay.Stats
	Strangers() []string
	Close() error
}

// Deps opens the packages that the agent stands on. A nil field means the real one. The exact
// simulation has its own, in which it decides what happens and when.
type Deps struct {
	Store  func(dir string) (Store, error)
	Port   func(cfg underlay.Config) (Port, error)
	Gossip func(cfg gossip.Config) (Gossip, error)
	Ledger func(cfg ledger.Config) (Ledger, error)
}

func (d Deps) filled() Deps {
	if d.Store == nil {
		d.Store = openStore
	}
	if d.Port == nil {
		d.Port = openPort
	}
	if d.Gossip == nil {
		d.Gossip = startGossip
	}
	if d.Ledger == nil {
		d.Ledger = openLedger
	}
	return d
}

// disk makes a Store of a store.Store, whose Bucket returns a pointer.
type disk struct{ *store.Store }

// Bucket implements Store.
func (d disk) Bucket(name string) Bucket { return d.Store.Bucket(name) }

// The real ones. Each returns a nil interface with an error: a nil pointer in an interface is
// not nil.

func openStore(dir string) (Store, error) {
	s, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	return disk{s}, nil
}

func openPort(cfg underlay.Config) (Port, error) {
	p, err := underlay.Open(cfg)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func startGossip(cfg gossip.Config) (Gossip, error) {
	g, err := gossip.Start(cfg)
	if err != nil {
		return nil, err
	}
	return g, nil
}

func openLedger(cfg ledger.Config) (Ledger, error) {
	l, err := ledger.Open(cfg)
	if err != nil {
		return nil, err
	}
	return l, nil
}
