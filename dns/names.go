// Package dns answers questions for the names of containers and hosts from the facts of the
// cluster. It uses no network, no clock and no log: a server asks it.
//
// Each network is a name space of its own. In it a name belongs to those who have it by the first
// Source, on all hosts. A question is understood as name.network first, and as a short name on
// each network of the asker if nobody has that. So whoever announces a name, on whatever network,
// hides no name.network of another one.
package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/netmap"
)

// DefaultDomain is the domain of all names, unless Config has another one.
const DefaultDomain = "weft.local"

// Config says how questions are answered.
type Config struct {
	Self        netmap.HostID
	Domain      string        // lower case, without dots at its ends; "": DefaultDomain
	TTL         time.Duration // of all answers, whole seconds
	PreferLocal bool          // addresses of this host's containers first, for services by their priority
	Health      bool          // containers whose health check fails are left out while another one answers
	Marathon    bool          // containers have the names that follow from EndpointName.App
	// Alive reports whether another host is not declared down; the containers of one that is are
	// not answered. nil: all are alive. It is called often, and must not call Names.
	Alive func(netmap.HostID) bool
	// Shuffle orders what has n elements by chance, as rand.Shuffle does. nil: addresses are
	// sorted.
	Shuffle func(n int, swap func(i, j int))
}

// Names has the names of the whole cluster. Its methods are safe for concurrent use.
type Names struct {
	cfg   Config
	turns atomic.Uint64 // see beginning

	mu       sync.RWMutex
	serial   uint32 // of the zone: how many changes were applied
	networks map[netmap.NetworkID]*network
	order    []*network // sorted by id
	hosts    map[string][]namedHost
	below    below // the names of hosts
	// hostNames are the names of hosts by id.
	hostNames map[netmap.HostID]string
}

// New returns Names that knows nothing yet.
func New(cfg Config) *Names {
	cfg.Domain = cmp.Or(cfg.Domain, DefaultDomain)
	return &Names{cfg: cfg, networks: map[netmap.NetworkID]*network{}, hosts: map[string][]namedHost{}, below: below{}, hostNames: map[netmap.HostID]string{}}
}

// Apply takes over what has changed since the view of the last call, at first since nil. It costs
// what changed, and keeps pointers into the view.
func (n *Names) Apply(_ *netmap.View, c netmap.Changes) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serial++
	for _, h := range c.Hosts {
		n.forgetHost(h.Old)
	}
	for _, h := range c.Hosts {
		n.addHost(h.New)
	}
	for _, e := range c.Endpoints {
		if e.Old != nil {
			n.forget(e.Old)
		}
	}
	for _, e := range c.Endpoints {
		if e.New != nil {
			n.add(e.New)
		}
	}
	for _, s := range c.StaticNames {
		if s.Old != nil {
			n.network(s.Old.Network).forgetByHand(*s.Old)
			n.dropEmpty(s.Old.Network)
		}
	}
	for _, s := range c.StaticNames {
		if s.New != nil && n.Problem(s.New.Name) == "" {
			n.network(s.New.Network).addByHand(*s.New)
		}
	}
	for _, w := range c.Networks {
		if w.New != nil {
			n.network(w.New.ID).describe(w.New)
		} else {
			n.network(w.Old.ID).describe(&netmap.Network{})
			n.dropEmpty(w.Old.ID)
		}
	}
}

// network is the network with an id; an empty one if it was not known.
func (n *Names) network(id netmap.NetworkID) *network {
	w := n.networks[id]
	if w == nil {
		w = &network{id: id, bearers: map[string][]bearer{}, below: below{}, holders: map[netip.Addr]*netmap.EndpointView{}}
		n.networks[id] = w
		at, _ := slices.BinarySearchFunc(n.order, id, compareID)
		n.order = slices.Insert(n.order, at, w)
	}
	return w
}

func (n *Names) dropEmpty(id netmap.NetworkID) {
	w := n.networks[id]
	if len(w.subnets)+len(w.holders)+len(w.bearers) > 0 {
		return
	}
	delete(n.networks, id)
	at, _ := slices.BinarySearchFunc(n.order, id, compareID)
	n.order = slices.Delete(n.order, at, at+1)
}

func compareID(w *network, id netmap.NetworkID) int { return cmp.Compare(w.id, id) }

func (n *Names) add(e *netmap.EndpointView) {
	w := n.network(e.Network)
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		if addr.IsValid() {
			w.holders[addr] = e
		}
	}
	if ofHost(e) {
		if w.hosts == nil {
			w.hosts = map[netmap.HostID]*netmap.EndpointView{}
		}
		w.hosts[e.Host] = e
	}
	for _, c := range n.called(e) {
		if c.problem == "" {
			w.give(c.name, bearer{e, c.source})
		}
	}
}

func (n *Names) forget(e *netmap.EndpointView) {
	w := n.network(e.Network)
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		if holder := w.holders[addr]; holder != nil && isSame(holder, e) {
			delete(w.holders, addr)
		}
	}
	if ofHost(e) {
		delete(w.hosts, e.Host)
	}
	for _, c := range n.called(e) {
		if c.problem == "" {
			w.take(c.name, e)
		}
	}
	n.dropEmpty(e.Network)
}

// namedHost is a host with its address under NAME.hosts.
type namedHost struct {
	id   netmap.HostID
	addr netip.Addr
}

// hostName is the name of a member that its underlay address has; "" if there is none in DNS.
func hostName(h *netmap.HostView) (string, namedHost) {
	if h == nil || !h.IsMember() || !h.Fact.Underlay.IsValid() {
		return "", namedHost{}
	}
	name := strings.ToLower(cmp.Or(h.Fact.Name, h.Entry.Name))
	if netmap.NameProblem(name) != "" {
		return "", namedHost{}
	}
	return name, namedHost{h.ID, h.Fact.Underlay.Addr().Unmap().WithZone("")}
}

func (n *Names) addHost(h *netmap.HostView) {
	if name, host := hostName(h); name != "" {
		n.hosts[name] = append(n.hosts[name], host)
		n.hostNames[host.id] = name
		n.below.add(name, 1)
	}
}

func (n *Names) forgetHost(h *netmap.HostView) {
	name, host := hostName(h)
	at := slices.Index(n.hosts[name], host)
	if at < 0 {
		return
	}
	n.below.add(name, -1)
	delete(n.hostNames, host.id)
	if n.hosts[name] = slices.Delete(n.hosts[name], at, at+1); len(n.hosts[name]) == 0 {
		delete(n.hosts, name)
	}
}
