package plugintest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
)

// Driver is the name under which the engine knows the plugin.
const Driver = "weftnet/weft:latest"

// Engine is one host's Docker with the plugin enabled. It implements
// plugin.Docker. Its own networks and containers outlive the agent and, unless it
// says otherwise, its own restarts. Safe for concurrent use.
type Engine struct {
	// Before hears of every call to the plugin before it is made, After when it was
	// answered or given up. Set them before the first call; nil: nobody hears.
	Before func(Call)
	After  func(Call)

	name string

	mu         sync.Mutex
	plugin     Plugin
	life       int // of dockerd
	made       int
	broken     error // of the API
	networks   map[string]*network
	containers map[string]*Container
	endpoints  map[netmap.EndpointID]string // that Docker has, with their networks
	watchers   map[chan dockerapi.Event]struct{}
}

// network is what Docker stores of a network.
type network struct {
	dockerapi.Network
	pools []poolOf
}

// poolOf is one of a network's pools, as the plugin gave it.
type poolOf struct {
	id      string
	subnet  netip.Prefix
	gateway string
	v6      bool
}

// Container is a container on one network.
type Container struct {
	Name     string
	Network  string     // Docker's id
	Want     netip.Addr // --ip; zero: none
	Running  bool       // what follows is empty while it does not run
	Endpoint netmap.EndpointID
	Addrs    []netip.Prefix // in the order of the network's pools
	MAC      netmap.MAC
	Link     string // the interface that Docker moved into it

	starting bool // uses its network already
}

// NewEngine is an engine without networks of ours whose plugin is down. The name
// makes its ids differ from those of other engines.
func NewEngine(name string) *Engine {
	return &Engine{
		name: name, life: 1, networks: map[string]*network{}, containers: map[string]*Container{},
		endpoints: map[netmap.EndpointID]string{}, watchers: map[chan dockerapi.Event]struct{}{},
	}
}

// id is 64 hex digits that nothing else has.
func (e *Engine) id() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.made++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", e.name, e.made))
	return hex.EncodeToString(sum[:])
}

// Container is a copy of a container, false if there is none of that name.
func (e *Engine) Container(name string) (Container, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[name]
	if !ok {
		return Container{}, false
	}
	return *c, true
}

// Containers are copies of all containers by name.
func (e *Engine) Containers() []Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Container
	for _, name := range slices.Sorted(maps.Keys(e.containers)) {
		out = append(out, *e.containers[name])
	}
	return out
}

// Subnets are those of a network, in the order of its pools.
func (e *Engine) Subnets(id string) []netip.Prefix {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []netip.Prefix
	if n := e.networks[id]; n != nil {
		for _, p := range n.pools {
			out = append(out, p.subnet)
		}
	}
	return out
}

// Run is `docker run -d --name NAME --network NETWORK [--ip WANT]`, or docker
// start for a container that was stopped.
func (e *Engine) Run(ctx context.Context, name, networkID string, want netip.Addr) (Container, error) {
	c := &Container{Name: name, Network: networkID, Want: want, Endpoint: netmap.EndpointID(e.id())}
	n, err := e.begin(c)
	if err != nil {
		return Container{}, err
	}
	if err := e.attach(of(ctx, name), n, c); err != nil {
		e.put(&Container{Name: name, Network: networkID, Want: want})
		return Container{}, err
	}
	c.Running = true
	e.put(c)
	e.tell(dockerapi.Event{Kind: dockerapi.Connected, Network: networkID, Name: n.Name, Container: name, Driver: Driver})
	e.tell(dockerapi.Event{Kind: dockerapi.ContainerStarted, Container: name, Name: name})
	return *c, nil
}

// begin notes that a container uses its network from now on.
func (e *Engine) begin(c *Container) (*network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, old := e.networks[c.Network], e.containers[c.Name]
	switch {
	case n == nil:
		return nil, fmt.Errorf("network %s not found", c.Network)
	case old != nil && (old.Running || old.starting):
		return nil, fmt.Errorf("container %s runs already", c.Name)
	}
	e.containers[c.Name] = &Container{Name: c.Name, Network: c.Network, Want: c.Want, starting: true}
	return n, nil
}

func (e *Engine) put(c *Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[c.Name] = c
}

// attach gives a container its addresses and its port. What fails is undone as
// Docker undoes it: no DeleteEndpoint when CreateEndpoint failed.
func (e *Engine) attach(ctx context.Context, n *network, c *Container) (err error) {
	defer func() {
		if err != nil {
			e.releaseAll(ctx, n, c)
		}
	}()
	for _, p := range n.pools {
		want := ""
		if c.Want.IsValid() && p.subnet.Contains(c.Want) {
			want = c.Want.String()
		}
		var got ipam.AddressResponse
		if err := e.call(ctx, "IpamDriver.RequestAddress", ipam.AddressRequest{PoolID: p.id, Address: want}, &got); err != nil {
			return err
		}
		addr, err := netip.ParsePrefix(got.Address)
		if err != nil {
			return fmt.Errorf("the plugin answered address %q: %w", got.Address, err)
		}
		c.Addrs = append(c.Addrs, addr)
	}
	var made struct{ Interface struct{ MacAddress string } }
	if err := e.call(ctx, "NetworkDriver.CreateEndpoint", e.endpoint(n, c), &made); err != nil {
		return err
	}
	if c.MAC, err = netmap.ParseMAC(made.Interface.MacAddress); err != nil {
		return err
	}
	e.have(c, true)
	var joined struct{ InterfaceName struct{ SrcName string } }
	if err := e.call(ctx, "NetworkDriver.Join", pair(c, "SandboxKey", "/var/run/docker/netns/"+c.Name), &joined); err != nil {
		_ = e.call(ctx, "NetworkDriver.DeleteEndpoint", pair(c), nil) // Docker only logs it
		e.have(c, false)
		return err
	}
	c.Link = joined.InterfaceName.SrcName
	return nil
}

// have notes whether Docker has an endpoint.
func (e *Engine) have(c *Container, has bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if has {
		e.endpoints[c.Endpoint] = c.Network
		return
	}
	delete(e.endpoints, c.Endpoint)
}

// endpoint is the body of CreateEndpoint.
func (e *Engine) endpoint(n *network, c *Container) map[string]any {
	face := map[string]string{}
	for i, a := range c.Addrs {
		key := "Address"
		if n.pools[i].v6 {
			key = "AddressIPv6"
		}
		face[key] = a.String()
	}
	return map[string]any{"NetworkID": c.Network, "EndpointID": c.Endpoint, "Interface": face, "Options": map[string]any{}}
}

func pair(c *Container, more ...string) map[string]any {
	out := map[string]any{"NetworkID": c.Network, "EndpointID": c.Endpoint}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func (e *Engine) releaseAll(ctx context.Context, n *network, c *Container) {
	for i, a := range c.Addrs {
		_ = e.call(ctx, "IpamDriver.ReleaseAddress", ipam.AddressRelease{PoolID: n.pools[i].id, Address: a.Addr().String()}, nil)
	}
}

// Stop is `docker stop`. Docker only logs what the plugin says to it; so does
// this, with the first error.
func (e *Engine) Stop(ctx context.Context, name string) error {
	e.mu.Lock()
	c := e.containers[name]
	if c == nil || !c.Running {
		e.mu.Unlock()
		return nil
	}
	n := e.networks[c.Network]
	e.containers[name] = &Container{Name: name, Network: c.Network, Want: c.Want}
	e.mu.Unlock()
	ctx = of(ctx, name)
	err := e.call(ctx, "NetworkDriver.Leave", pair(c), nil)
	err = cmp.Or(err, e.call(ctx, "NetworkDriver.DeleteEndpoint", pair(c), nil))
	e.have(c, false)
	e.releaseAll(ctx, n, c)
	e.tell(dockerapi.Event{Kind: dockerapi.Disconnected, Network: c.Network, Name: n.Name, Container: name, Driver: Driver})
	e.tell(dockerapi.Event{Kind: dockerapi.ContainerDied, Container: name, Name: name})
	return err
}

// Remove is `docker rm -f`.
func (e *Engine) Remove(ctx context.Context, name string) error {
	err := e.Stop(ctx, name)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, name)
	return err
}

// Forget loses a container and its endpoint without a word to the plugin, as a
// dockerd that was killed in the middle of removing it.
func (e *Engine) Forget(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[name]; c != nil {
		delete(e.endpoints, c.Endpoint)
	}
	delete(e.containers, name)
}

// Repeat sends again, for every network and running container, what made them:
// nothing may change by it. The error says whose answer was another one.
func (e *Engine) Repeat(ctx context.Context) error {
	var errs []error
	for _, c := range e.Containers() {
		if !c.Running {
			continue
		}
		e.mu.Lock()
		n := e.networks[c.Network]
		e.mu.Unlock()
		var made struct{ Interface struct{ MacAddress string } }
		var joined struct{ InterfaceName struct{ SrcName string } }
		err := errors.Join(
			e.call(ctx, "NetworkDriver.CreateEndpoint", e.endpoint(n, &c), &made),
			e.call(ctx, "NetworkDriver.Join", pair(&c, "SandboxKey", "/var/run/docker/netns/"+c.Name), &joined),
			e.call(ctx, "NetworkDriver.EndpointOperInfo", pair(&c), nil),
		)
		if err == nil && (made.Interface.MacAddress != c.MAC.String() || joined.InterfaceName.SrcName != c.Link) {
			err = fmt.Errorf("container %s has %s on %s, answered were %s and %s", c.Name, c.MAC, c.Link, made.Interface.MacAddress, joined.InterfaceName.SrcName)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Restart is a restart of dockerd. With live-restore its containers run on; else
// they were killed, and are started again after their ends were cleaned up; those
// that do not start stay stopped. The error says what the plugin did not answer
// as before.
func (e *Engine) Restart(ctx context.Context, liveRestore bool) error {
	e.mu.Lock()
	e.life++
	networks := slices.SortedFunc(maps.Values(e.networks), func(a, b *network) int { return cmp.Compare(a.ID, b.ID) })
	e.mu.Unlock()
	var errs []error
	for _, n := range networks {
		for _, p := range n.pools {
			errs = append(errs, e.replay(ctx, p))
		}
	}
	for _, c := range e.Containers() {
		if !c.Running {
			continue
		}
		e.mu.Lock()
		n := e.networks[c.Network]
		e.mu.Unlock()
		for i, a := range c.Addrs {
			errs = append(errs, e.again(of(ctx, c.Name), n.pools[i], a))
		}
	}
	if !liveRestore {
		e.startAgain(ctx)
	}
	e.tell(dockerapi.Event{Kind: dockerapi.Resync})
	return errors.Join(errs...)
}

func (e *Engine) startAgain(ctx context.Context) {
	killed := e.Containers()
	for _, c := range killed {
		_ = e.Stop(ctx, c.Name) // Docker only logs it
	}
	for _, c := range killed {
		if c.Running {
			_, _ = e.Run(ctx, c.Name, c.Network, c.Want) // Docker only logs it
		}
	}
}

// replay is what dockerd asks for each stored pool at its start.
func (e *Engine) replay(ctx context.Context, p poolOf) error {
	var got ipam.PoolResponse
	if err := e.call(ctx, "IpamDriver.RequestPool", ipam.PoolRequest{AddressSpace: "weft", Pool: p.subnet.String(), V6: p.v6}, &got); err != nil {
		return err
	}
	if got.PoolID != p.id || got.Pool != p.subnet.String() {
		return fmt.Errorf("pool %s came back as %s, %s", p.id, got.PoolID, got.Pool)
	}
	return e.call(ctx, "IpamDriver.RequestAddress", gatewayRequest(p), nil)
}

func gatewayRequest(p poolOf) ipam.AddressRequest {
	bare, err := netip.ParsePrefix(p.gateway)
	req := ipam.AddressRequest{PoolID: p.id, Options: map[string]string{"RequestAddressType": "com.docker.network.gateway"}}
	if err == nil {
		req.Address = bare.Addr().String()
	}
	return req
}

func (e *Engine) again(ctx context.Context, p poolOf, a netip.Prefix) error {
	var got ipam.AddressResponse
	err := e.call(ctx, "IpamDriver.RequestAddress", ipam.AddressRequest{PoolID: p.id, Address: a.Addr().String()}, &got)
	if err == nil && got.Address != a.String() {
		err = fmt.Errorf("address %s came back as %s", a, got.Address)
	}
	return err
}

// Adopt makes this engine a copy of another one, as when its whole machine is cloned.
func (e *Engine) Adopt(o *Engine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.life, e.networks, e.containers = o.life, maps.Clone(o.networks), maps.Clone(o.containers)
}
