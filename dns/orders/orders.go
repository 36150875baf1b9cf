// Package orders carries out what operators ask for about names: to list them, to look one up,
// and to add and remove those that are no container's.
package orders

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// decideTimeout is how long an operator waits for a decision at most.
const decideTimeout = 5 * time.Second

// Config says whose names they are.
type Config struct {
	Names *dns.Names
	View  func() *netmap.View
	// Decide asks the ledger, and waits until this host's own facts include the decision.
	Decide func(ctx context.Context, c state.Command) (state.Reply, error)
	// AskDocker has Docker's resolver answer, in a container of this host that is on a network.
	AskDocker func(ctx context.Context, network netmap.NetworkID, query *wire.Msg) (*wire.Msg, error)
	// Since asks a host when its endpoint with an address on a network came to be; zero if the
	// host does not know it.
	Since func(ctx context.Context, host netmap.HostID, network netmap.NetworkID, addr netip.Addr) (time.Time, error)
}

// Orders implements the part of api.Agent that is about names. It is safe for concurrent use.
type Orders struct{ cfg Config }

// New returns Orders.
func New(cfg Config) *Orders { return &Orders{cfg} }

// ListNames lists the names on one network, or on all.
func (o *Orders) ListNames(_ context.Context, q api.NameQuery) (out []api.Name, err error) {
	view := o.cfg.View()
	networks := view.Networks
	if q.Network != "" {
		n, err := find(view, q.Network)
		if err != nil {
			return nil, err
		}
		networks = []netmap.Network{n}
	}
	for _, n := range networks {
		out = append(out, shown(view, o.cfg.Names.List(n.ID))...)
	}
	return out, nil
}

// LookupName answers as a container on a network is answered, or without a network as the host.
func (o *Orders) LookupName(ctx context.Context, q api.NameQuery) (out []api.NameAnswer, err error) {
	view, from := o.cfg.View(), dns.Asker{Everything: true}
	if q.Network != "" {
		n, err := find(view, q.Network)
		if err != nil {
			return nil, err
		}
		from = dns.Asker{Networks: []netmap.NetworkID{n.ID}}
	}
	name, types := question(q.Name)
	if _, valid := wire.IsDomainName(name); !valid || name == "" {
		return nil, netmap.Refuse(netmap.BadInput, "%q is no name that DNS can ask for", q.Name)
	}
	brief, cancel := context.WithTimeout(ctx, dockerTimeout)
	defer cancel()
	for _, qtype := range types {
		x := o.cfg.Names.Explain(from, name, qtype)
		a := api.NameAnswer{Type: x.Type, Outcome: x.Outcome, Records: x.Records, Names: shown(view, x.Entries)}
		o.date(ctx, a.Names, x.Entries)
		if q.Trace && len(from.Networks) > 0 {
			a.Docker = o.docker(brief, from.Networks[0], new(wire.Msg).SetQuestion(wire.Fqdn(name), qtype))
		}
		out = append(out, a)
	}
	return out, nil
}

// Bounds of what an operator is told about the age of containers, as each is a question to its host.
const (
	mostDated   = 64          // containers
	dateTimeout = time.Second // for all of them
)

// date says since when the containers that answer are there. It leaves it out where the host does
// not say.
func (o *Orders) date(ctx context.Context, names []api.Name, entries []dns.Entry) {
	ctx, cancel := context.WithTimeout(ctx, dateTimeout)
	defer cancel()
	var all sync.WaitGroup
	for i, e := range entries[:min(len(entries), mostDated)] { // those that answer come first
		if e.Passed != "" || e.Endpoint == "" || e.Host.IsZero() {
			continue
		}
		all.Go(func() { names[i].Since, _ = o.cfg.Since(ctx, e.Host, e.Network, e.Addrs[0]) })
	}
	all.Wait()
}

// dockerTimeout is how long an operator waits for Docker's resolver; its own servers may take
// longer.
const dockerTimeout = 2 * time.Second

// docker is what Docker's resolver answers, in words.
func (o *Orders) docker(ctx context.Context, network netmap.NetworkID, query *wire.Msg) string {
	reply, err := o.cfg.AskDocker(ctx, network, query)
	if err != nil {
		return err.Error()
	}
	words := []string{wire.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		words = append(words, strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(words, ", ")
}

// question is what is asked for a word: the name of an address, a service, or the addresses of a
// name.
func question(word string) (name string, types []uint16) {
	if addr, err := netip.ParseAddr(word); err == nil {
		if reverse, err := wire.ReverseAddr(addr.Unmap().WithZone("").String()); err == nil {
			return reverse, []uint16{wire.TypePTR}
		}
	}
	switch lower := strings.ToLower(strings.TrimSuffix(word, ".")); {
	case strings.HasSuffix(lower, ".arpa"):
		return word, []uint16{wire.TypePTR}
	case strings.HasPrefix(lower, "_"):
		return word, []uint16{wire.TypeSRV}
	}
	return word, []uint16{wire.TypeA, wire.TypeAAAA}
}

// AddName gives a name to something outside of containers.
func (o *Orders) AddName(ctx context.Context, r api.StaticName) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	n, err := o.meant(r)
	if err != nil {
		return "", err
	}
	want := netmap.StaticName{Network: n.ID, Name: strings.ToLower(r.Name), Addr: r.Addr.Unmap()}
	if refusal := want.Check(); refusal != nil {
		return "", refusal
	}
	if problem := o.cfg.Names.Problem(want.Name); problem != "" {
		return "", netmap.Refuse(netmap.BadInput, "the name %s would never be answered: %s", want.Name, problem)
	}
	if _, err := o.cfg.Decide(ctx, state.Command{Kind: state.KindAddName, AddName: &state.AddName{Name: want}}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is %s on network %s%s", want.Name, want.Addr, label(n), o.hiddenBy(want)), nil
}

// hiddenBy names a container that has a name, and so is answered in place of what it was added for.
func (o *Orders) hiddenBy(want netmap.StaticName) string {
	for _, e := range o.cfg.Names.List(want.Network) {
		if e.Name == want.Name && e.Container != "" && e.Passed == "" {
			return fmt.Sprintf(", as soon as container %s, which has the name too (%s), is gone", e.Container, e.Source)
		}
	}
	return ""
}

// RemoveName takes such a name away.
func (o *Orders) RemoveName(ctx context.Context, r api.StaticName) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	n, err := o.meant(r)
	if err != nil {
		return "", err
	}
	want := netmap.StaticName{Network: n.ID, Name: strings.ToLower(r.Name), Addr: r.Addr.Unmap()}
	if _, err := o.cfg.Decide(ctx, state.Command{Kind: state.KindRemoveName, RemoveName: &state.RemoveName{Name: want}}); err != nil {
		return "", err
	}
	if want.Addr.IsValid() {
		return fmt.Sprintf("%s on network %s leads to %s no more", want.Name, label(n), want.Addr), nil
	}
	return fmt.Sprintf("%s is removed from network %s", want.Name, label(n)), nil
}

func (o *Orders) meant(r api.StaticName) (netmap.Network, error) {
	switch {
	case r.Name == "":
		return netmap.Network{}, netmap.Refuse(netmap.BadInput, "the request does not say which name; give it one")
	case r.Network == "":
		return netmap.Network{}, netmap.Refuse(netmap.BadInput, "the request does not say on which network; give its name or its number (--network)")
	}
	return find(o.cfg.View(), r.Network)
}

// find finds a network that exists.
func find(view *netmap.View, word string) (netmap.Network, error) {
	n, found := view.FindNetwork(word)
	if !found || n.Retired {
		return netmap.Network{}, netmap.Refuse(netmap.Unknown, "there is no network %s in this cluster; weft status lists them", word)
	}
	return n, nil
}

func label(n netmap.Network) string {
	return cmp.Or(n.Name, strconv.FormatUint(uint64(n.ID), 10))
}

// shown are entries with the names of hosts and networks.
func shown(view *netmap.View, entries []dns.Entry) (out []api.Name) {
	for _, e := range entries {
		n := api.Name{Name: e.Name, Source: e.Source, Container: e.Container, Endpoint: e.Endpoint, Addrs: slices.Clone(e.Addrs), Passed: e.Passed}
		if e.Network != 0 {
			network, _ := view.Network(e.Network)
			n.Network = label(network)
		}
		if !e.Host.IsZero() {
			n.Host = view.HostName(e.Host)
		}
		out = append(out, n)
	}
	return out
}
