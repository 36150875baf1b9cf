// Package resolver gives this host's containers the names of the whole cluster: it keeps the names
// equal to the facts, and a DNS server in the sandbox of each container that is on a network.
package resolver

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/dns/containers"
	"github.com/weftnet/weft/dns/sandbox"
	"github.com/weftnet/weft/dns/server"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

const (
	// lookEvery is how often the names are compared with the facts without a reason, and how
	// often it is shown which zones have no server that answers.
	lookEvery = 10 * time.Second
	// listenAgain is the pause before an address is tried again.
	listenAgain = 5 * time.Second
)

// Facts are the facts of the cluster and its members.
type Facts interface {
	follow.Source
	Synced() bool
	Members() []gossip.Member
}

// Host finds the network namespaces of containers: see sandbox.Config.
type Host struct {
	Open  func(path string) (*netns.Namespace, error)
	Watch func(ctx context.Context, moved func())
}

// Config says what a Resolver is made of. The functions are called concurrently.
type Config struct {
	Names      dns.Config // without Alive and Shuffle
	Facts      Facts
	Endpoints  func() []attach.EndpointRecord
	Containers *containers.Names
	Host       *Host                       // nil: containers have Docker's names
	Zones      map[string][]netip.AddrPort // servers of zones that are none of ours
	Listen     netip.AddrPort              // where the host itself may ask; the zero value: nowhere
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
	Log     *slog.Logger
}

// Resolver answers the DNS queries of this host's containers. All methods are safe for
// concurrent use.
type Resolver struct {
	cfg       Config
	names     *dns.Names
	sandboxes *sandbox.Sandboxes
	zones     *server.Zones
	down      atomic.Pointer[map[netmap.HostID]bool] // hosts that are declared down; nil: none
}

// New returns a Resolver that knows no name and serves no container yet.
func New(cfg Config) *Resolver {
	r := &Resolver{cfg: cfg, zones: server.NewZones(cfg.Zones)}
	cfg.Names.Alive, cfg.Names.Shuffle = r.alive, rand.Shuffle
	r.names = dns.New(cfg.Names)
	s := sandbox.Config{Members: r.members, Problem: cfg.Problem, Serve: r.serve}
	if cfg.Host != nil {
		s.Open, s.Watch = cfg.Host.Open, cfg.Host.Watch
	}
	r.sandboxes = sandbox.New(s)
	return r
}

func (r *Resolver) serve(ns *netns.Namespace, docker bool, networks func() []netmap.NetworkID) (sandbox.Server, error) {
	cfg := r.server(r.names.For(networks))
	if !docker {
		cfg.Rest = server.NewZones(map[string][]netip.AddrPort{".": hostServers()})
	}
	return sandbox.Serve(ns, cfg)
}

func (r *Resolver) server(answer func(*wire.Msg) *wire.Msg) server.Config {
	return server.Config{Domain: r.cfg.Names.Domain, Zones: r.zones, Log: r.cfg.Log, Answer: answer}
}

// ServeHost serves the host itself until ctx ends. While the address cannot be had it tries again.
func (r *Resolver) ServeHost(ctx context.Context) {
	if !r.cfg.Listen.IsValid() {
		return
	}
	for ctx.Err() == nil {
		s, err := server.Listen(r.cfg.Listen, r.server(r.names.ForHost))
		if err == nil {
			r.cfg.Problem("dns-listen", "")
			<-ctx.Done()
			_ = s.Close() // the agent ends
			return
		}
		r.cfg.Problem("dns-listen", fmt.Sprintf("the host cannot ask for names at WEFT_DNS_LISTEN: %v; end what listens there, or choose another address", err))
		turn.Sleep(ctx, listenAgain)
	}
}

// Nameserver is where containers ask for names; invalid where they have no cluster's.
func (r *Resolver) Nameserver() netip.Addr {
	if r.cfg.Host == nil {
		return netip.Addr{}
	}
	return server.InContainer
}

// hostServers are the DNS servers in /etc/resolv.conf, which the plugin shares with the host: resolv.conf(5).
func hostServers() (out []netip.AddrPort) {
	cfg, err := wire.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil // there is none, or nobody can read it: such names are not answered
	}
	for _, s := range cfg.Servers {
		if addr, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.AddrPortFrom(addr, 53))
		}
	}
	return out
}

// Names returns the names that containers are answered from.
func (r *Resolver) Names() *dns.Names { return r.names }

// AskDocker is sandbox.Sandboxes.AskDocker.
func (r *Resolver) AskDocker(ctx context.Context, network netmap.NetworkID, query *wire.Msg) (*wire.Msg, error) {
	return r.sandboxes.AskDocker(ctx, network, query)
}

// Entered puts a server into each sandbox that an endpoint has entered, if Docker has made it
// already.
func (r *Resolver) Entered() { r.sandboxes.Serve() }

// Changed says that Config.Endpoints may have changed. It never blocks.
func (r *Resolver) Changed() { r.sandboxes.Changed() }

// ServeContainers serves containers until ctx ends.
func (r *Resolver) ServeContainers(ctx context.Context) { r.sandboxes.Run(ctx) }

// Follow keeps the names equal to the facts until ctx ends.
func (r *Resolver) Follow(ctx context.Context) {
	for look := range follow.Facts(ctx, r.cfg.Facts, follow.When{Every: lookEvery, Of: named}) {
		if look.Rest {
			r.heed(r.cfg.Facts.Members())
		}
		r.names.Apply(look.Changes())
		r.cfg.Problem("dns-zones", r.zones.Problem())
	}
}

// named reports whether what has changed is what names lead to.
func named(c netmap.Changes) bool {
	return len(c.Hosts)+len(c.Networks)+len(c.Endpoints)+len(c.StaticNames) > 0
}

// heed keeps in mind which hosts are down. Before this host knows all facts, and so all members,
// none is.
func (r *Resolver) heed(members []gossip.Member) {
	down := map[netmap.HostID]bool{}
	for _, m := range members {
		if !m.Alive && r.cfg.Facts.Synced() {
			down[m.ID] = true
		}
	}
	r.down.Store(&down)
}

func (r *Resolver) alive(host netmap.HostID) bool {
	down := r.down.Load()
	return down == nil || !(*down)[host]
}

// members lists the endpoints that are in sandboxes.
func (r *Resolver) members() (out []sandbox.Member) {
	view := r.cfg.Facts.View()
	for _, e := range r.cfg.Endpoints() {
		if !e.Joined || e.Sandbox == "" {
			continue
		}
		_, first := r.cfg.Containers.Of(e.Endpoint.ID)
		n, _ := view.Network(e.Endpoint.Network)
		out = append(out, sandbox.Member{Sandbox: e.Sandbox, Network: e.Endpoint.Network, First: first, Name: n.Name, Docker: e.Owner == netmap.OwnerDocker})
	}
	return out
}
