package plugintest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
)

// CreateNetwork is `docker network create` with Weft's driver and IPAM, and
// returns Docker's id. No pools: one IPv4 pool of Weft's choice.
func (e *Engine) CreateNetwork(ctx context.Context, spec dockerapi.ReplicaSpec) (string, error) {
	if id := e.named(spec.Name); id != "" {
		return "", fmt.Errorf("network with name %s already exists as %.12s: %w", spec.Name, id, dockerapi.ErrNameTaken)
	}
	n := &network{Network: dockerapi.Network{
		ID: e.id(), Name: spec.Name, Driver: Driver, Ours: true, Internal: spec.Internal, Shown: spec.Shown,
	}}
	if id, err := strconv.ParseUint(spec.Shown.Options[dockerapi.ReplicaOption], 10, 64); err == nil {
		n.Replica = netmap.NetworkID(id)
	}
	pools := spec.Shown.Pools
	if len(pools) == 0 {
		pools = []netmap.DockerPool{{}}
	}
	err := e.requestPools(ctx, n, pools)
	if err == nil {
		n.show()
		err = e.call(ctx, "NetworkDriver.CreateNetwork", createBody(n, spec), nil)
	}
	if err != nil {
		e.releasePools(ctx, n)
		return "", err
	}
	e.mu.Lock()
	e.networks[n.ID] = n
	e.mu.Unlock()
	e.tell(dockerapi.Event{Kind: dockerapi.NetworkCreated, Network: n.ID, Name: n.Name, Driver: Driver})
	return n.ID, nil
}

// show completes what Docker shows of a network that was given its pools: where the user
// named none, those that he got.
func (n *network) show() {
	named := slices.ContainsFunc(n.Shown.Pools, func(p netmap.DockerPool) bool { return p.Subnet.IsValid() })
	if !named {
		n.Shown.Pools = nil
	}
	for _, p := range n.pools {
		n.Shown.IPv6 = n.Shown.IPv6 || p.v6
		if named {
			continue
		}
		gateway, _ := netip.ParsePrefix(p.gateway) // the plugin's own tests know whether it is one
		n.Shown.Pools = append(n.Shown.Pools, netmap.DockerPool{Subnet: p.subnet, Gateway: gateway.Addr()})
	}
}

func (e *Engine) named(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, n := range e.networks {
		if n.Name == name {
			return id
		}
	}
	return ""
}

func (e *Engine) requestPools(ctx context.Context, n *network, pools []netmap.DockerPool) error {
	for _, p := range pools {
		req := ipam.PoolRequest{AddressSpace: "weft", V6: p.Subnet.Addr().Is6()}
		if p.Subnet.IsValid() {
			req.Pool = p.Subnet.String()
		}
		if p.Range.IsValid() {
			req.SubPool = p.Range.String()
		}
		var got ipam.PoolResponse
		if err := e.call(ctx, "IpamDriver.RequestPool", req, &got); err != nil {
			return err
		}
		subnet, err := netip.ParsePrefix(got.Pool)
		if err != nil {
			return fmt.Errorf("the plugin answered pool %q: %w", got.Pool, err)
		}
		n.pools = append(n.pools, poolOf{id: got.PoolID, subnet: subnet, v6: req.V6, gateway: got.Data["com.docker.network.gateway"]})
		if err := e.requestFixed(ctx, &n.pools[len(n.pools)-1], p); err != nil {
			return err
		}
	}
	return nil
}

// requestFixed asks for the gateway, where the user or nobody named one, and for
// the auxiliary addresses.
func (e *Engine) requestFixed(ctx context.Context, p *poolOf, want netmap.DockerPool) error {
	if want.Gateway.IsValid() || p.gateway == "" {
		req := gatewayRequest(poolOf{id: p.id, gateway: ""})
		if want.Gateway.IsValid() {
			req.Address = want.Gateway.String()
		}
		var got ipam.AddressResponse
		if err := e.call(ctx, "IpamDriver.RequestAddress", req, &got); err != nil {
			return err
		}
		p.gateway = got.Address
	}
	for _, name := range slices.Sorted(maps.Keys(want.Aux)) {
		if err := e.call(ctx, "IpamDriver.RequestAddress", ipam.AddressRequest{PoolID: p.id, Address: want.Aux[name].String()}, nil); err != nil {
			return err
		}
	}
	return nil
}

func createBody(n *network, spec dockerapi.ReplicaSpec) map[string]any {
	data := map[bool][]map[string]any{false: {}, true: {}}
	for _, p := range n.pools {
		data[p.v6] = append(data[p.v6], map[string]any{"AddressSpace": "weft", "Pool": p.subnet.String(), "Gateway": p.gateway})
	}
	options := map[string]any{"com.docker.network.generic": spec.Shown.Options}
	if spec.Internal {
		options["com.docker.network.internal"] = true
	}
	return map[string]any{"NetworkID": n.ID, "Options": options, "IPv4Data": data[false], "IPv6Data": data[true]}
}

func (e *Engine) releasePools(ctx context.Context, n *network) {
	for _, p := range n.pools {
		_ = e.call(ctx, "IpamDriver.ReleasePool", ipam.PoolRelease{PoolID: p.id}, nil) // Docker only logs it
	}
}

// RemoveNetwork implements plugin.Docker; it is also `docker network rm`. What the
// plugin says to it Docker only logs.
func (e *Engine) RemoveNetwork(ctx context.Context, id string) error {
	e.mu.Lock()
	n := e.networks[id]
	if n != nil && e.used(id) {
		e.mu.Unlock()
		return fmt.Errorf("network %s has active endpoints: %w", n.Name, dockerapi.ErrInUse)
	}
	delete(e.networks, id)
	e.mu.Unlock()
	if n == nil {
		return nil
	}
	e.releasePools(ctx, n)
	_ = e.call(ctx, "NetworkDriver.DeleteNetwork", map[string]any{"NetworkID": id}, nil)
	e.tell(dockerapi.Event{Kind: dockerapi.NetworkRemoved, Network: id, Name: n.Name, Driver: Driver})
	return nil
}

// used reports whether a container runs or starts on a network, or Docker has an
// endpoint on it still. The caller holds mu.
func (e *Engine) used(id string) bool {
	for _, c := range e.containers {
		if c.Network == id && (c.Running || c.starting) {
			return true
		}
	}
	return slices.Contains(slices.Collect(maps.Values(e.endpoints)), id)
}

// AddForeign makes a network of another driver, which takes the name.
func (e *Engine) AddForeign(name string) {
	id := e.id()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.networks[id] = &network{Network: dockerapi.Network{ID: id, Name: name, Driver: "bridge"}}
}

// CreateGateway implements plugin.Docker: docker_gwbridge comes to 172.18.0.0/16, or to
// 172.19.0.0/16 where that is to be avoided.
func (e *Engine) CreateGateway(_ context.Context, avoid []netip.Prefix) error {
	at := netip.MustParsePrefix("172.18.0.0/16")
	if slices.ContainsFunc(avoid, at.Overlaps) {
		at = netip.MustParsePrefix("172.19.0.0/16")
	}
	e.AddGateway(at)
	return nil
}

// AddGateway makes docker_gwbridge at a subnet, as a container's start or a user does.
func (e *Engine) AddGateway(at netip.Prefix) {
	id := e.id()
	e.mu.Lock()
	e.networks[id] = &network{Network: dockerapi.Network{ID: id, Name: dockerapi.GatewayNetwork, Driver: "bridge", Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: at}}}}}
	e.mu.Unlock()
	e.tell(dockerapi.Event{Kind: dockerapi.NetworkCreated, Network: id, Name: dockerapi.GatewayNetwork, Driver: "bridge"})
}

// AddSwarm makes a network of swarm scope with the plugin as its driver: Docker does not
// call the plugin for it.
func (e *Engine) AddSwarm(name string) (id string) {
	id = e.id()[:25]
	e.mu.Lock()
	e.networks[id] = &network{Network: dockerapi.Network{ID: id, Name: name, Driver: Driver, Ours: true, Swarm: true}}
	e.mu.Unlock()
	e.tell(dockerapi.Event{Kind: dockerapi.NetworkCreated, Network: id, Name: name})
	return id
}

// BreakAPI makes the API fail with err until BreakAPI(nil), which tells watchers
// to list again.
func (e *Engine) BreakAPI(err error) {
	e.mu.Lock()
	e.broken = err
	e.mu.Unlock()
	if err == nil {
		e.tell(dockerapi.Event{Kind: dockerapi.Resync})
		return
	}
	e.tell(dockerapi.Event{Kind: dockerapi.Lost, Err: err})
}

// RefuseReplicas makes CreateReplica fail with err, after it asked for its pools, until
// RefuseReplicas(nil).
func (e *Engine) RefuseReplicas(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = err
}

// Watch implements plugin.Docker.
func (e *Engine) Watch(ctx context.Context) <-chan dockerapi.Event {
	events := make(chan dockerapi.Event, 256)
	events <- dockerapi.Event{Kind: dockerapi.Resync}
	e.mu.Lock()
	e.watchers[events] = struct{}{}
	e.mu.Unlock()
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, events)
		close(events)
	})
	return events
}

// tell drops an event for a watcher that has not taken 256: no test makes so many.
func (e *Engine) tell(event dockerapi.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.watchers {
		select {
		case w <- event:
		default:
		}
	}
}

// Networks implements plugin.Docker.
func (e *Engine) Networks(context.Context) ([]dockerapi.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]dockerapi.Network, 0, len(e.networks))
	for _, n := range e.networks {
		out = append(out, n.Network)
	}
	slices.SortFunc(out, func(a, b dockerapi.Network) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out, e.broken
}

// Attachments implements plugin.Docker.
func (e *Engine) Attachments(_ context.Context, id, _ string) ([]dockerapi.Attachment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []dockerapi.Attachment
	for _, name := range slices.Sorted(maps.Keys(e.containers)) {
		c := e.containers[name]
		if c.Network != id {
			continue
		}
		at := dockerapi.Attachment{Container: c.Name, Name: c.Name, Running: c.Running}
		if c.Running {
			at.Endpoint = c.Endpoint
		}
		out = append(out, at)
	}
	return out, e.broken
}

// Endpoints implements plugin.Docker.
func (e *Engine) Endpoints(_ context.Context, id string) ([]netmap.EndpointID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []netmap.EndpointID
	for endpoint, network := range e.endpoints {
		if network == id {
			out = append(out, endpoint)
		}
	}
	slices.Sort(out)
	return out, e.broken
}

// CreateReplica implements plugin.Docker.
func (e *Engine) CreateReplica(ctx context.Context, spec dockerapi.ReplicaSpec) (string, error) {
	e.mu.Lock()
	broken, refused := e.broken, e.refused
	e.mu.Unlock()
	if broken != nil {
		return "", broken
	}
	if refused != nil {
		n := &network{}
		err := e.requestPools(ctx, n, spec.Shown.Pools)
		e.releasePools(ctx, n)
		return "", errors.Join(refused, err)
	}
	marked := map[string]string{}
	if spec.Network != 0 {
		marked[dockerapi.ReplicaOption] = strconv.FormatUint(uint64(spec.Network), 10)
	}
	maps.Copy(marked, spec.Shown.Options)
	spec.Shown.Options = marked
	return e.CreateNetwork(ctx, spec)
}

// OnlyIPv6 implements plugin.Docker: the engine is Docker 28.
func (e *Engine) OnlyIPv6(context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return true, e.broken
}

// Drivers implements plugin.Docker.
func (e *Engine) Drivers(context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return []string{Driver}, e.broken
}
