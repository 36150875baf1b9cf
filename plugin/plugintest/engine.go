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
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Driver is the name under which the engine knows the plugin.
const Driver = "weftnet/weft:latest"

// Engine is one host's Docker with the plugin enabled. It implements
// plugin.Docker. Its own networks and containers outlive the agent and, unless it
// says otherwise, its own restarts. Safe for concurrent use.
type Engine struct {
	// Before is called before every call to the plugin, After when the call was answered or given up. Set
	// them before the first call; they may be nil.
	Before func(Call)
	After  func(Call)
	// Cut reports whether the agent ends before it has read a call. Nil: never.
	Cut func(Call) bool

	name string

	mu         sync.Mutex
	plugin     Plugin
	life       int // of dockerd
	made       int
	broken     error // of the API
	refused    error // what CreateReplica ends with, once it has pools
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

// Find returns a copy of a container, false if there is none of that name.
func (e *Engine) Find(name string) (Container, bool) {
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
	_, existed := e.Find(name)
	n, err := e.begin(c)
	if err != nil {
		return Container{}, err
	}
	if !existed {
		e.tell(dockerapi.Event{Kind: dockerapi.ContainerCreated, Container: name, Name: name})
		turn.Sleep(ctx, betweenCalls)
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

// betweenCalls is what passes between the API's calls to create and to start a
// container, at least.
const betweenCalls = 2 * time.Millisecond

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
	e.releaseAll(ctx, n, c)
	e.have(c, false)
	e.tell(dockerapi.Event{Kind: dockerapi.Disconnected, Network: c.Network, Name: n.Name, Container: name, Driver: Driver})
	e.tell(dockerapi.Event{Kind: dockerapi.ContainerDied, Container: name, Name: name})
	return err
}

// Remove is `docker rm -f`.
func (e *Engine) Remove(ctx context.Context, name string) error {
	err := e.Stop(ctx, name)
	e.mu.Lock()
	delete(e.containers, name)
	e.mu.Unlock()
	e.tell(dockerapi.Event{Kind: dockerapi.ContainerRemoved, Container: name, Name: name})
	return err
}

// Forget loses a container and its endpoint without calling the plugin, as a dockerd does
// that is killed in the middle of removing it.
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
