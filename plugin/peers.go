package plugin

import (
	"context"
	"net/netip"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/discover"
)

// openPeers reads the entries of WEFT_JOIN and of weft connect.
func (a *Agent) openPeers() (err error) {
	a.peers, err = discover.Open(discover.Config{
		Join: a.cfg.Settings.Join, Self: a.fact.Underlay, Root: a.cfg.Settings.Root, Disk: a.store.Bucket("peers"), Log: a.log,
	})
	return err
}

// peersNow returns the entries, each with the number of its addresses at which a host is alive.
func (a *Agent) peersNow() []api.Peer {
	alive := map[netip.AddrPort]bool{a.fact.Underlay: true}
	for _, m := range a.gossip.Members() {
		alive[m.Addr] = m.Alive
	}
	out := []api.Peer{}
	for _, f := range a.peers.Report() {
		s := api.Peer{Peer: f.Entry, From: "WEFT_JOIN", Forgotten: f.Forgotten, Addrs: append([]netip.AddrPort{}, f.Addrs...), At: f.At}
		if f.Connected {
			s.From = "weft connect"
		}
		if f.Err != nil {
			s.Error = f.Err.Error()
		}
		for _, addr := range f.Addrs {
			if alive[addr] {
				s.Alive++
			}
		}
		out = append(out, s)
	}
	return out
}

// Connect implements api.Agent.
func (a *Agent) Connect(ctx context.Context, p api.PeerChange) (string, error) {
	return a.peers.Connect(ctx, p.Peer)
}

// Forget implements api.Agent.
func (a *Agent) Forget(ctx context.Context, p api.PeerChange) (string, error) {
	return a.peers.Forget(ctx, p.Peer)
}
