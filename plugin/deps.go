package plugin

import (
	"context"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/member"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store"
	"github.com/weftnet/weft/underlay"
)

// Store is what must survive: who this host is, and a part for each package.
type Store interface {
	member.Store
	Bucket(name string) Bucket
	// Problem is why the last write failed; empty: it did not.
	Problem() string
	Close() error
}

// Bucket is one package's part of the store.
type Bucket interface {
	ipam.Disk
	// ScanReverse visits the entries whose keys begin with a prefix, the last first, until
	// visit returns false.
	ScanReverse(prefix string, visit func(key string, value []byte) bool) error
}

// Gossip is what the hosts tell each other.
type Gossip interface {
	member.Gossip
	Refused() []gossip.Refused
	Stats() gossip.Stats
	Announce(set map[netmap.Key]any, del []netmap.Key) error
	PublishDecisions(d gossip.Decisions) error
	SetKeeper(keeper bool)
	Close() error
}

// Ledger is the way to the cluster's decisions.
type Ledger interface {
	member.Ledger
	Announced(keepers []netmap.HostID)
	History(ctx context.Context, q state.Query) (state.Past, error)
	Close() error
}

// Port is the one port that all packages share.
type Port interface {
	ledger.Underlay
	Packets() *underlay.Packets
	Stats() underlay.Stats
	Close() error
}

// Rooms opens the rooms that the agent decides with. What is nil is the real one;
// the exact simulation has its own, in which it decides what happens when.
type Rooms struct {
	Store  func(dir string) (Store, error)
	Port   func(cfg underlay.Config) (Port, error)
	Gossip func(cfg gossip.Config) (Gossip, error)
	Ledger func(cfg ledger.Config) (Ledger, error)
}

func (r Rooms) filled() Rooms {
	if r.Store == nil {
		r.Store = openStore
	}
	if r.Port == nil {
		r.Port = openPort
	}
	if r.Gossip == nil {
		r.Gossip = startGossip
	}
	if r.Ledger == nil {
		r.Ledger = openLedger
	}
	return r
}

// disk is a store whose buckets are what the rooms need of them.
type disk struct{ *store.Store }

// Bucket implements Store.
func (d disk) Bucket(name string) Bucket { return d.Store.Bucket(name) }

// The real rooms. A nil pointer behind an interface is not nil, hence the form.

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
