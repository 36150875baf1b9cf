// Package presence keeps the host itself on the networks that it takes part in: those on which it
// has containers, and those that WEFT_MEMBER_OF names. There it has an address and an interface,
// by which it reaches containers on all hosts, and they reach it.
package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

const (
	// every is how often the kernel is compared with what it should have: what somebody else
	// removes is back within that time.
	every = 9973 * time.Millisecond
	// settle is how long it waits after a change, so that the container whose start it follows is
	// not held up, and what comes together is done together.
	settle = 7319 * time.Microsecond
	// retry is the pause after a failure.
	retry = 4987 * time.Millisecond
	// linger is how long the host stays on a network after its last container has left. Containers
	// that come and go one after the other then cost the ledger nothing.
	linger = 59971 * time.Millisecond
	// patience is how long failures that pass by themselves, as while the host joins the cluster,
	// are no problem yet.
	patience = 30 * time.Second
	// fullFor is how long the ledger is not asked again where it had no address for the host.
	fullFor = 10*time.Minute - 29*time.Millisecond
	// limit bounds one attempt.
	limit = 15 * time.Second
	// joinLimit bounds what a join waits for the ledger: while it does, no network can be created.
	joinLimit = 2 * time.Second
)

// Host is the host's namespace.
type Host interface {
	// SetHost makes the host's own interfaces, addresses, routes and rules equal to ports, and
	// returns what became of that.
	SetHost(ctx context.Context, ports []datapath.HostPort) (HostReport, error)
}

// HostReport is what SetHost found and did.
type HostReport struct {
	Missing []string // interfaces that do not exist
	Changed int      // how much it changed
	Docker  bool     // Docker's rules for egress and published ports are in place
}

// Config says whose presence it is.
type Config struct {
	Self  netmap.HostID
	Facts follow.Source
	// MemberOf reports whether the host takes part in a network without containers.
	MemberOf func(n netmap.Network) bool
	// Own are this host's networks and endpoints, of all owners.
	Own *attach.Attachments
	// Join and Leave are Agent.AttachEndpoint and Agent.DetachEndpoint.
	Join  func(context.Context, api.AttachRequest) (*api.Attachment, error)
	Leave func(context.Context, api.DetachRequest) (string, error)
	// Left reports whether the host has left the cluster, and so is on no network.
	Left func() bool
	// Synced reports whether the facts are complete. Until then the host leaves no network.
	Synced func() bool
	// MTUs are what a container on each of these networks would get.
	MTUs    func(networks []netmap.Network) []int
	Host    Host
	NotYet  error // of a Host that cannot be told yet, which is no failure
	Problem func(topic, sentence string)
	Log     *slog.Logger
}

// Presence is the host's part in networks. Run is called once; the other methods are safe for
// concurrent use.
type Presence struct {
	cfg  Config
	wake chan struct{}

	begun  bool                           // it was looked once
	ruled  bool                           // Docker's rules were seen
	used   map[netmap.NetworkID]time.Time // when a container was seen on it last
	failed time.Time                      // since when the host cannot get on a network; zero: it can
	tried  time.Time                      // when the host could not get on a network last…
	why    error                          // …and the reason
	full   map[netmap.NetworkID]fullNetwork
	set    []datapath.HostPort // what the kernel was told last; nil: nothing, or it failed

	repaired atomic.Uint64
}

// fullNetwork says when the ledger had no address for the host, and what to tell about it.
type fullNetwork struct {
	at   time.Time
	text string
}

// New makes the presence of a host that Run brings about.
func New(cfg Config) *Presence {
	return &Presence{cfg: cfg, wake: make(chan struct{}, 1), used: map[netmap.NetworkID]time.Time{}, full: map[netmap.NetworkID]fullNetwork{}}
}

// Changed says that an endpoint of this host has come or gone. It never blocks.
func (p *Presence) Changed() { turn.Poke(p.wake) }

// Repaired returns how many things somebody else had changed were put right.
func (p *Presence) Repaired() uint64 { return p.repaired.Load() }

// Run keeps the host on its networks until ctx ends.
func (p *Presence) Run(ctx context.Context) {
	when := follow.When{Every: every, Wake: p.wake, Of: func(c netmap.Changes) bool {
		return len(c.Networks) > 0 || len(c.Hosts) > 0 || c.Ledger // of hosts, the MTU
	}}
	for look := range follow.Facts(ctx, p.cfg.Facts, when) {
		if !turn.Sleep(ctx, settle) {
			return
		}
		try, cancel := context.WithTimeout(ctx, limit)
		p.follow(try, look)
		cancel()
	}
}

// follow joins and leaves networks, and tells the kernel.
func (p *Presence) follow(ctx context.Context, look follow.Look) {
	synced := p.cfg.Synced() // read before the facts: else an incomplete view could count as complete
	wanted, next := p.wanted(look.View())
	if p.cfg.Left() {
		wanted, next = nil, 0
	}
	if next > 0 {
		look.Again(next)
	}
	if synced {
		p.leave(ctx, look, wanted)
	}
	p.cfg.Problem("host address", p.join(ctx, look, wanted))
	ports := p.ports(wanted)
	known := reflect.DeepEqual(ports, p.set)
	if known && !look.Due {
		return
	}
	p.set = nil
	changed, err := p.tell(ctx, look, wanted, ports)
	if err != nil {
		look.Again(retry)
	}
	if errors.Is(err, p.cfg.NotYet) {
		return
	}
	p.cfg.Problem("host network", sentence(err))
	if err == nil {
		p.set = ports
	}
	if known {
		p.repaired.Add(uint64(changed))
	}
}

// leave has the host leave all networks but the wanted ones. One without an endpoint is left too:
// the agent may have ended while it joined.
func (p *Presence) leave(ctx context.Context, look follow.Look, wanted []netmap.Network) {
	part := p.cfg.Own.Of(netmap.OwnerHost)
	for _, e := range part.Endpoints() {
		if e.Evicted != "" || !slices.ContainsFunc(wanted, func(n netmap.Network) bool { return p.endpoint(n) == e.Endpoint.ID }) {
			_, err := p.cfg.Leave(ctx, api.DetachRequest{Owner: netmap.OwnerHost, Endpoint: e.Endpoint.ID})
			p.noted(look, err)
		}
	}
	for _, r := range part.Networks() {
		if !r.Deleted && !slices.ContainsFunc(wanted, func(n netmap.Network) bool { return n.ID == r.Network.ID }) {
			p.noted(look, part.ForgetNetwork(ctx, r.ID))
		}
	}
}

// tell sets the kernel, and makes interfaces that are missing: after a reboot, or because somebody
// has deleted them.
func (p *Presence) tell(ctx context.Context, look follow.Look, wanted []netmap.Network, ports []datapath.HostPort) (changed int, err error) {
	r, err := p.cfg.Host.SetHost(ctx, ports)
	p.dockers(r, err)
	if len(r.Missing) == 0 || err != nil {
		return r.Changed, err
	}
	for _, n := range wanted {
		if slices.Contains(r.Missing, datapath.InnerName(p.endpoint(n))) {
			p.noted(look, p.attach(ctx, n))
		}
	}
	again, err := p.cfg.Host.SetHost(ctx, ports)
	if len(again.Missing) > 0 && err == nil {
		err = fmt.Errorf("there is no interface %s", strings.Join(again.Missing, ", "))
	}
	return r.Changed + again.Changed, err
}

// dockers shows that Docker's rules were there and are not any more, while this host has containers:
// Docker does not notice.
func (p *Presence) dockers(r HostReport, err error) {
	switch {
	case err != nil:
	case r.Docker:
		p.ruled = true
		p.cfg.Problem("docker's rules", "")
	case p.ruled && len(p.used) > 0:
		p.cfg.Problem("docker's rules", "somebody has removed Docker's firewall rules: containers do not reach the world outside, and published ports are not reached, until Docker writes them again; restart it (systemctl restart docker; containers stay with live-restore)")
	}
}

func sentence(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("this host's own addresses on networks are not all in the kernel: %v; it is tried again every %s: mend what it says, or keep hosts off the network (weft.host=false)", err, retry.Round(time.Second))
}

func (p *Presence) endpoint(n netmap.Network) netmap.EndpointID {
	return netmap.HostEndpoint(p.cfg.Self, n.ID)
}

// wanted are the networks that the host takes part in, and when that is to be looked at again
// because a last container has left; 0: not for this.
func (p *Presence) wanted(view *netmap.View) (out []netmap.Network, next time.Duration) {
	now := time.Now()
	p.see(now)
	here := p.others()
	for _, n := range view.Networks {
		since, used := p.used[n.ID]
		rest := linger - now.Sub(since)
		switch {
		case n.Internal || !n.Host:
		case used && since.Equal(now), !n.Retired && p.cfg.MemberOf(n):
			out = append(out, n)
		case used && rest > 0 && here[n.ID] && !n.Retired:
			out = append(out, n)
			if next == 0 || rest < next {
				next = rest
			}
		default:
			delete(p.used, n.ID)
		}
	}
	// Networks come and go: what is old is forgotten, also of those that the ledger has no more.
	maps.DeleteFunc(p.used, func(_ netmap.NetworkID, since time.Time) bool { return now.Sub(since) >= linger })
	maps.DeleteFunc(p.full, func(_ netmap.NetworkID, f fullNetwork) bool { return now.Sub(f.at) >= fullFor })
	return out, next
}

// others are the networks on which somebody else than the host itself may make endpoints here.
func (p *Presence) others() map[netmap.NetworkID]bool {
	out := map[netmap.NetworkID]bool{}
	for _, n := range p.cfg.Own.Networks() {
		out[n.Network.ID] = out[n.Network.ID] || n.Owner != netmap.OwnerHost && !n.Deleted
	}
	return out
}

// see notes on which networks there are containers now. At first it is not known since when there
// is none where the host is on a network.
func (p *Presence) see(now time.Time) {
	for _, e := range p.cfg.Own.Endpoints() {
		if e.Owner == netmap.OwnerHost && !p.begun {
			p.used[e.Endpoint.Network] = now.Add(-time.Nanosecond)
		}
	}
	p.begun = true
	for _, e := range p.cfg.Own.Endpoints() {
		if e.Owner != netmap.OwnerHost && e.Joined {
			p.used[e.Endpoint.Network] = now
		}
	}
}

// join has the host join those of the networks that it is not on. It returns a sentence about
// those on which no address is left for it.
func (p *Presence) join(ctx context.Context, look follow.Look, wanted []netmap.Network) (short string) {
	var full []string
	for _, n := range wanted {
		if e, ok := p.cfg.Own.Endpoint(p.endpoint(n)); ok && e.Joined {
			continue
		}
		if f, ok := p.full[n.ID]; ok {
			full = append(full, f.text)
			continue
		}
		if wait := retry - time.Since(p.tried); wait > 0 { // whatever else changes meanwhile
			look.Again(wait)
			return p.after(p.why)
		}
		switch err := p.attach(ctx, n); {
		case errors.Is(err, &netmap.Refusal{Kind: netmap.Exhausted}):
			p.full[n.ID] = fullNetwork{time.Now(), fmt.Sprintf("%s (%v)", cmp.Or(n.Name, fmt.Sprint(n.ID)), err)}
			full = append(full, p.full[n.ID].text)
		case err != nil:
			p.tried, p.why = time.Now(), err
			p.noted(look, err)
			return p.after(err)
		}
	}
	p.failed = time.Time{}
	if len(full) == 0 {
		return ""
	}
	return "this host has no address of its own on network " + strings.Join(full, ", nor on ")
}

// noted has a failure tried again.
func (p *Presence) noted(look follow.Look, err error) {
	if err != nil {
		look.Again(retry)
		p.cfg.Log.Debug("this host's part in a network", "err", err)
	}
}

// after is the sentence about a failure that does not pass.
func (p *Presence) after(err error) string {
	if p.failed.IsZero() {
		p.failed = time.Now()
	}
	if errors.Is(err, p.cfg.NotYet) || time.Since(p.failed) < patience {
		return ""
	}
	return fmt.Sprintf("this host cannot get an address of its own on its networks, and tries again every %s: %v", retry.Round(time.Second), err)
}

func (p *Presence) attach(ctx context.Context, n netmap.Network) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	_, err := p.cfg.Join(ctx, api.AttachRequest{
		Owner: netmap.OwnerHost, Network: fmt.Sprint(n.ID), Endpoint: p.endpoint(n),
	})
	return err
}

// ports are the interfaces that the host has on its networks.
func (p *Presence) ports(wanted []netmap.Network) []datapath.HostPort {
	out := []datapath.HostPort{}
	mtus := p.cfg.MTUs(wanted)
	for i, n := range wanted {
		e, ok := p.cfg.Own.Endpoint(p.endpoint(n))
		if !ok || !e.Joined {
			continue
		}
		port := datapath.HostPort{Name: datapath.InnerName(e.Endpoint.ID), MTU: mtus[i], Subnets: n.Subnets}
		for _, a := range []netip.Addr{e.Endpoint.V4, e.Endpoint.V6} {
			if a.IsValid() {
				port.Addrs = append(port.Addrs, a)
			}
		}
		out = append(out, port)
	}
	return out
}
