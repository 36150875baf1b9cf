// Package endpoints makes endpoints for containers that are not Docker's, such as those of a CNI plugin: what Docker asks
// for in several calls of its own protocol is one request over the agent's socket here.
package endpoints

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

// endpointID is the form of the id that a request gives an endpoint. Docker's ids have it too.
var endpointID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Limits of requests for containers that are not Docker's.
const (
	attachTimeout = 10 * time.Second
	leaveTimeout  = 5 * time.Second // after the request has ended
)

// Config says what Endpoints are made of. The functions are called concurrently.
type Config struct {
	Attach *attach.Attachments
	IPAM   IPAM
	// Network finds a network of the cluster by its name or number.
	Network func(name string) (netmap.Network, error)
	// MTU is that of a container on a network, in bytes.
	MTU func(netmap.Network) int
	// Open opens the network namespace at a path in the mount namespace of the host; nil: there are none.
	Open func(path string) (*netns.Namespace, error)
	// Enter moves the interface of an endpoint that is plugged into its sandbox, under a name.
	Enter func(ctx context.Context, id netmap.EndpointID, sandbox string, ns *netns.Namespace, name string) error
	// Nameserver is where containers ask for names; invalid where nobody answers.
	Nameserver func() netip.Addr
	Log        *slog.Logger
}

// IPAM hands addresses out: see ipam.IPAM.
type IPAM interface {
	Allocate(ctx context.Context, a ipam.Ask) (netip.Addr, error)
	Release(ctx context.Context, subnet netip.Prefix, addr netip.Addr, c ipam.Caller) error
}

// Endpoints are those of this host that are not Docker's. All methods are safe for concurrent use.
type Endpoints struct {
	cfg     Config
	joining *turn.Keyed // by the owner's id of a network
}

// New returns Endpoints.
func New(cfg Config) *Endpoints { return &Endpoints{cfg: cfg, joining: turn.NewKeyed()} }

// AttachEndpoint makes an endpoint for a container that is not Docker's. The host joins the
// network if it is not on it, ipam allocates addresses, and the port is plugged. Repeating it
// changes nothing. It implements api.Agent.
func (a *Endpoints) AttachEndpoint(ctx context.Context, r api.AttachRequest) (*api.Attachment, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	switch {
	case r.Owner != netmap.OwnerCNI && r.Owner != netmap.OwnerHost:
		return nil, netmap.Refuse(netmap.BadInput, "owner %.40q: want %s or %s; Docker's containers come over its own protocol", r.Owner, netmap.OwnerCNI, netmap.OwnerHost)
	case !endpointID.MatchString(string(r.Endpoint)):
		return nil, netmap.Refuse(netmap.BadInput, "endpoint %.80q: want 64 hexadecimal digits, such as a hash of what the container is called", r.Endpoint)
	case r.Sandbox != "" && (a.cfg.Open == nil || r.Interface == ""):
		return nil, netmap.Refuse(netmap.BadInput, "sandbox %.80q: want a network namespace of this host, and the name of the interface in it", r.Sandbox)
	}
	part := a.cfg.Attach.Of(r.Owner)
	n, err := a.cfg.Network(r.Network)
	id := fmt.Sprintf("%s/%d", r.Owner, n.ID)
	if e, ok := part.Endpoint(r.Endpoint); ok && (err != nil || e.Endpoint.Network == n.ID) {
		id, err = e.LocalNetwork, nil // also if the network was removed meanwhile
	}
	if err != nil {
		return nil, err
	}
	release, err := a.joining.Lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer release()
	if n, err = joinedAs(ctx, part, id, n); err != nil {
		return nil, err
	}
	out, err := attachTo(ctx, a, part, id, n, r)
	if err != nil {
		leaveUnused(ctx, a.cfg.Log, part, id)
		return nil, err
	}
	return out, nil
}

// joinedAs returns the network that an owner has under an id. The host joins it first if
// necessary.
func joinedAs(ctx context.Context, part attach.Part, id string, n netmap.Network) (netmap.Network, error) {
	if !slices.ContainsFunc(part.Networks(), func(r attach.NetworkRecord) bool { return r.ID == id && !r.Deleted }) {
		err := part.JoinNetwork(ctx, attach.NetworkRequest{ID: id, Subnets: n.Subnets, Multicast: n.Multicast, Host: n.Host, Internal: n.Internal, Replica: n.ID})
		if err != nil {
			return netmap.Network{}, err
		}
	}
	return part.Network(ctx, id)
}

// attachTo makes an endpoint in a network that the host is on.
func attachTo(ctx context.Context, a *Endpoints, part attach.Part, id string, n netmap.Network, r api.AttachRequest) (*api.Attachment, error) {
	e := netmap.Endpoint{ID: r.Endpoint, Network: n.ID, Name: r.Container}
	out := &api.Attachment{Network: n.ID, MTU: a.cfg.MTU(n)}
	caller := ipam.Caller{Owner: r.Owner, ID: string(r.Endpoint)}
	for _, want := range r.Addrs {
		if !slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Contains(want) }) {
			return nil, netmap.Refuse(netmap.Outside, "%s is in no subnet of network %s, which are %s; choose another address", want, cmp.Or(n.Name, r.Network), n.Subnets)
		}
	}
	for _, subnet := range n.Subnets {
		ask := ipam.Ask{Subnet: subnet, Name: r.Container, Caller: caller, Host: r.Owner == netmap.OwnerHost}
		if i := slices.IndexFunc(r.Addrs, subnet.Contains); i >= 0 {
			ask.Want = r.Addrs[i]
		}
		addr, err := a.cfg.IPAM.Allocate(ctx, ask)
		if err != nil {
			return nil, err
		}
		out.Addrs = append(out.Addrs, netip.PrefixFrom(addr, subnet.Bits()))
		if addr.Is4() {
			e.V4 = addr
		} else {
			e.V6 = addr
		}
	}
	e.MAC = netmap.MACOf(cmp.Or(e.V4, e.V6))
	if err := part.Attach(ctx, id, e); err != nil {
		return nil, err
	}
	var err error
	out.MAC = e.MAC
	if out.Interface, err = part.Plug(ctx, e.ID, r.Sandbox); err == nil && r.Sandbox != "" {
		out.Interface, err = r.Interface, a.enter(ctx, e.ID, r)
		out.DNS = a.cfg.Nameserver()
	}
	return out, err
}

// enter moves the interface of an endpoint that is plugged into its sandbox.
func (a *Endpoints) enter(ctx context.Context, id netmap.EndpointID, r api.AttachRequest) error {
	ns, err := a.cfg.Open(r.Sandbox)
	if err != nil {
		return netmap.Refuse(netmap.BadInput, "sandbox %s: %v; want the path of a network namespace in the mount namespace of the host", r.Sandbox, err)
	}
	defer func() { _ = ns.Close() }()
	return a.cfg.Enter(ctx, id, r.Sandbox, ns, r.Interface)
}

// DetachEndpoint deletes an endpoint of a container that is not Docker's and releases its
// addresses. With the owner's last endpoint the host leaves the network. It implements
// api.Agent.
func (a *Endpoints) DetachEndpoint(ctx context.Context, r api.DetachRequest) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	part := a.cfg.Attach.Of(r.Owner)
	e, ok := part.Endpoint(r.Endpoint)
	if r.Owner == netmap.OwnerDocker || !ok {
		return fmt.Sprintf("%s has no endpoint %.12s on this host", r.Owner, r.Endpoint), nil
	}
	release, err := a.joining.Lock(ctx, e.LocalNetwork)
	if err != nil {
		return "", err
	}
	defer release()
	if err := part.ForgetEndpoint(ctx, r.Endpoint); err != nil {
		return "", err
	}
	caller := ipam.Caller{Owner: r.Owner, ID: string(r.Endpoint)}
	for _, n := range part.Networks() {
		for _, subnet := range n.Network.Subnets {
			for _, addr := range []netip.Addr{e.Endpoint.V4, e.Endpoint.V6} {
				if subnet.Contains(addr) {
					err = errors.Join(err, a.cfg.IPAM.Release(ctx, subnet, addr, caller))
				}
			}
		}
	}
	leaveUnused(ctx, a.cfg.Log, part, e.LocalNetwork)
	return fmt.Sprintf("endpoint %.12s is gone, %s is free", r.Endpoint, e.Endpoint.AddrText()), err
}

// Lost removes an endpoint whose container is gone without a word of its owner, as after a reboot. One that Docker has is
// Docker's to remove. It does what it can: it is told again.
func (a *Endpoints) Lost(ctx context.Context, id netmap.EndpointID) {
	if _, mine := a.cfg.Attach.Of(netmap.OwnerCNI).Endpoint(id); !mine {
		return
	}
	text, err := a.DetachEndpoint(ctx, api.DetachRequest{Owner: netmap.OwnerCNI, Endpoint: id})
	a.cfg.Log.Info("a container is gone without a word of its runtime", "endpoint", id, "then", text, "err", err)
}

// leaveUnused has the host leave a network on which its owner has no endpoint here.
// Attachments.FinishDeletions tries again what fails.
func leaveUnused(ctx context.Context, log *slog.Logger, part attach.Part, id string) {
	if slices.ContainsFunc(part.Endpoints(), func(e attach.EndpointRecord) bool { return e.LocalNetwork == id }) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := part.ForgetNetwork(ctx, id); err != nil {
		log.Warn("this host cannot leave a network without containers now, and tries again", "network", id, "err", err)
	}
}
