package plugin

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/decide"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Report returns what `weft status` shows.
func (a *Agent) Report() *api.Report {
	view := a.gossip.View()
	a.member.EndClones(view)
	r := &api.Report{
		Version: a.cfg.Version, Level: state.Level, Cluster: a.store.Cluster(), Self: a.self, Name: a.fact.Name, State: a.member.State(), NotReady: a.NotReady(),
		Hosts: a.hosts(view), Peers: a.peersNow(), Ranges: rangesInUse(view), Networks: a.networks(view), At: time.Now(), Process: api.ThisProcess(), Counters: counters(a),
		Secrets: a.secrets,
	}
	l := a.ledger.Status()
	r.Ledger = api.Ledger{Level: lowestLevel(r.Hosts), Role: l.Role, Leader: l.Leader, Decided: view.Decided}
	for _, k := range l.Keepers {
		if k.Voter { // one that still copies the log has no vote yet
			r.Ledger.Keepers = append(r.Ledger.Keepers, k.ID)
		}
	}
	for _, p := range []string{l.Problem, a.store.Problem()} {
		if p != "" {
			r.Problems = append(r.Problems, p)
		}
	}
	r.Problems = append(r.Problems, shrunk(view, a.self, a.local())...)
	r.Problems = append(r.Problems, crossed(view, a.cfg.Kernel.Routes())...)
	a.mu.Lock()
	defer a.mu.Unlock()
	health := a.dataplane.Health()
	r.Datapath = api.Datapath{LastSet: health.LastSet, Repaired: health.Repaired + a.presence.Repaired()}
	if health.Err != nil {
		r.Datapath.Error = health.Err.Error()
	}
	for _, p := range a.problems {
		r.Problems = append(r.Problems, p)
	}
	r.Problems = append(r.Problems, refused(a.gossip.Refused())...)
	r.Problems = append(r.Problems, strangers(a.port.Strangers())...)
	r.Problems = append(r.Problems, a.member.Evicted()...)
	slices.Sort(r.Problems)
	return r
}

// maxRefused bounds the refused hosts that the report lists, since anybody can invent some.
const maxRefused = 5

// refused describes the hosts that were refused last.
func refused(all []gossip.Refused) []string {
	slices.SortFunc(all, func(x, y gossip.Refused) int { return y.Last.Compare(x.Last) })
	var out []string
	for _, f := range all[:min(len(all), maxRefused)] {
		out = append(out, f.Text)
	}
	if more := len(all) - maxRefused; more > 0 {
		out = append(out, fmt.Sprintf("%d hosts more were refused, of other clusters or releases; the log names some of them", more))
	}
	return out
}

// strangers are the hosts without this one's secret, as many as are listed.
func strangers(all []string) []string {
	if more := len(all) - maxRefused; more > 0 {
		return append(all[:maxRefused], fmt.Sprintf("%d hosts more are refused, which have no secret of this one", more))
	}
	return all
}

// alive has the hosts that answer.
func alive(a *Agent) map[netmap.HostID]bool {
	out := map[netmap.HostID]bool{a.self: true}
	for _, m := range a.gossip.Members() {
		out[m.ID] = m.Alive
	}
	return out
}

func (a *Agent) hosts(view *netmap.View) []api.Host {
	alive := alive(a)
	out := make([]api.Host, 0, len(view.Hosts))
	for _, h := range view.Hosts {
		s := api.Host{
			ID: h.ID, Name: view.HostName(h.ID), Underlay: h.Fact.Underlay, State: "unreachable",
			Keeper: h.Fact.Keeper, Version: h.Fact.Version, Level: h.Entry.Level, MTU: h.Fact.MTU,
		}
		switch {
		case h.Entry.Removed:
			s.State = "removed"
		case alive[h.ID]:
			s.State = "alive"
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(x, y api.Host) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// lowestLevel is the feature level that a cluster of these hosts runs; 0: none is admitted.
func lowestLevel(hosts []api.Host) (lowest int) {
	for _, h := range hosts {
		if h.Level > 0 && h.State != "removed" && (lowest == 0 || h.Level < lowest) {
			lowest = h.Level
		}
	}
	return lowest
}

func (a *Agent) networks(view *netmap.View) []api.Network {
	local := a.local()
	inventory := a.ipam.Inventory()
	used := usage(inventory)
	out := make([]api.Network, 0, len(view.Networks))
	for _, n := range view.Networks {
		s := api.Network{ID: n.ID, Name: n.Name, VNI: n.VNI, Retired: n.Retired}
		if slices.ContainsFunc(local.Networks, func(l netmap.Network) bool { return l.ID == n.ID }) {
			s.MTU = datapath.DeviceOf(view, a.self, n, local).PortMTU
		}
		for _, p := range n.Subnets {
			subnet := subnetOf(view, p, used)
			subnet.Shares = shares(view, a.self, p, inventory)
			s.Subnets = append(s.Subnets, subnet)
		}
		for e := range view.EndpointsOf(n.ID) {
			if e.OfHost() {
				e.Name = "host " + view.HostName(e.Host)
			}
			s.Endpoints = append(s.Endpoints, reported(e))
		}
		for _, d := range view.Disputes {
			if d.Network == n.ID && len(s.Disputes) < maxDisputes {
				s.Disputes = append(s.Disputes, api.Dispute{Addr: d.Addr, Winner: reported(d.Winner), Loser: reported(d.Loser)})
			}
		}
		out = append(out, s)
	}
	return out
}

// maxDisputes bounds the disputes that the report lists for each network, since a host with
// false facts can cause many.
const maxDisputes = 100

func reported(e netmap.EndpointView) api.Endpoint {
	return api.Endpoint{ID: e.ID, Name: e.Name, Host: e.Host, V4: e.V4, V6: e.V6, MAC: e.MAC}
}

// counters returns what the packages have counted that hear other hosts and Docker.
func counters(a *Agent) map[string]any {
	out := map[string]any{"gossip": a.gossip.Stats(), "underlay": a.port.Stats()}
	if a.cfg.calls != nil {
		out["docker"] = a.cfg.calls()
	}
	return out
}

// shrunk describes the networks whose containers get a smaller MTU than was asked for, or than
// this host's own underlay carries, and names the host with the smallest.
func shrunk(view *netmap.View, self netmap.HostID, l datapath.Local) []string {
	tightest := self
	own := l.UnderlayMTU - datapath.Overhead(l.Source)
	least := own
	for _, h := range view.Hosts {
		if room := h.Fact.MTU - datapath.Overhead(h.Fact.Underlay.Addr()); h.Fact.MTU > 0 && h.IsMember() && room < least {
			tightest, least = h.ID, room
		}
	}
	var out []string
	for _, n := range l.Networks {
		if decided, ok := view.Network(n.ID); ok { // its name came later than this host's record
			n.Name = decided.Name
		}
		want := max(n.MTU, l.MTU)
		if want == 0 {
			want = own
		}
		if got := datapath.DeviceOf(view, self, n, l).PortMTU; got < want && got == least {
			out = append(out, fmt.Sprintf("network %s: containers get an MTU of %d, not %d: the underlay of host %s carries no more; raise its MTU, or set weft.mtu=%d to agree",
				cmp.Or(n.Name, strconv.FormatUint(uint64(n.ID), 10)), got, want, view.HostName(tightest), got))
		}
	}
	return out
}

// crossed describes the ranges that networks of this host overlap which Weft did not make.
func crossed(view *netmap.View, routes []ipam.Route) (out []string) {
	for _, r := range view.Ranges {
		if route, is := ipam.Collision(routes, r.Prefix); is {
			out = append(out, fmt.Sprintf("the cluster's range %s overlaps %s (%s) of this host: a network with such a subnet cannot be here, and may be chosen for one without --subnet; renumber that network, or give a --subnet that no host has",
				r.Prefix, route.Prefix, route.Name))
		}
	}
	return out
}

// usage counts this host's used addresses in each block.
func usage(inventory []ipam.PoolStock) map[netip.Prefix]uint64 {
	out := map[netip.Prefix]uint64{}
	for _, p := range inventory {
		for _, b := range p.Blocks {
			out[b.Prefix] = b.Used
		}
	}
	return out
}

func subnetOf(view *netmap.View, p netip.Prefix, used map[netip.Prefix]uint64) api.Subnet {
	out := api.Subnet{Prefix: p}
	if s, ok := view.Subnet(p); ok {
		out.Gateway = s.Gateway
	}
	for _, b := range view.BlocksOf(p) {
		block := api.Block{Prefix: b.Prefix, Owner: b.Owner}
		if n, mine := used[b.Prefix]; mine {
			block.Used = &n
		}
		out.Blocks = append(out.Blocks, block)
	}
	for _, c := range view.ClaimsOf(p) {
		out.Claims = append(out.Claims, api.Claim{Addr: c.Addr, Owner: c.Owner})
	}
	return out
}

// shares returns the hosts' shares of a subnet. This host's own are counted by its ipam, not by
// the facts.
func shares(view *netmap.View, self netmap.HostID, subnet netip.Prefix, inventory []ipam.PoolStock) []api.Share {
	out := []api.Share{}
	for _, s := range decide.Shares(view, subnet, subnet) {
		out = append(out, api.Share{Host: s.Host, Blocks: s.Blocks, Claims: s.Claims, Used: s.Used, Free: s.Free})
	}
	for _, p := range inventory {
		if p.Subnet.Prefix != subnet || len(p.Blocks)+len(p.Claims) == 0 {
			continue
		}
		own := api.Share{Host: self, Blocks: len(p.Blocks), Claims: len(p.Claims), Used: uint64(len(p.Held)), Free: p.Free}
		i := slices.IndexFunc(out, func(s api.Share) bool { return s.Host == self })
		if i < 0 {
			return append(out, own)
		}
		out[i] = own
	}
	return out
}

// rangesInUse returns the ranges, each with the number of subnets in it.
func rangesInUse(view *netmap.View) []api.RangeUse {
	out := []api.RangeUse{}
	for _, r := range view.Ranges {
		u := api.RangeUse{Prefix: r.Prefix}
		for _, s := range view.Subnets {
			if r.Prefix.Overlaps(s.Prefix) {
				u.Subnets++
			}
		}
		out = append(out, u)
	}
	return out
}
