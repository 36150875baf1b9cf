// Package sandbox gives each sandbox of this host in which an endpoint of ours is a DNS server.
// A sandbox is the network namespace that Docker makes for a container; containers that share it
// (--network container:NAME) share the server.
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

// Refresh is how often what takes names over is refreshed. It ends by itself after three times
// that, so that the containers have Docker's own names when the agent is gone.
const Refresh = 5 * time.Second

// Member is an endpoint that is in a sandbox.
type Member struct {
	Sandbox string // the path of the namespace in the mount namespace of dockerd
	Network netmap.NetworkID
	First   bool   // its network is the first of the container's settings
	Name    string // of the network; the others are in this order
	Docker  bool   // Docker made the sandbox, with a resolver of its own
}

// Server serves one sandbox. Its other methods than AskDocker are not called concurrently.
type Server interface {
	// Refresh keeps the server in charge for three times Refresh more.
	Refresh() error
	// AskDocker has Docker's resolver answer a query. It may be called at any time.
	AskDocker(ctx context.Context, query *wire.Msg) (*wire.Msg, error)
	// Close ends it and leaves nothing of it in the sandbox.
	Close() error
	// Stop ends it and leaves it in charge for what is left of that time, for an agent that
	// starts again.
	Stop() error
}

// Config says how sandboxes are found and served. All functions are called concurrently.
type Config struct {
	// Members lists the endpoints that are in sandboxes now.
	Members func() []Member
	// Open opens the namespace of a sandbox. The error is netns.ErrNotExist while Docker has
	// not made it, which it does after the last call to the plugin in releases before 28. nil: no
	// sandbox is served.
	Open func(path string) (*netns.Namespace, error)
	// Serve starts a server in a namespace, which is closed afterwards. The server asks for the
	// networks that its container is on with each question. docker says whether Docker's resolver is there.
	Serve func(ns *netns.Namespace, docker bool, networks func() []netmap.NetworkID) (Server, error)
	// Watch calls moved when an interface may have been moved into a sandbox, until ctx ends.
	Watch func(ctx context.Context, moved func())
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
}

// Sandboxes are those of this host. All methods are safe for concurrent use.
type Sandboxes struct {
	cfg  Config
	wake chan struct{}

	mu     sync.Mutex // held while servers are started and ended
	served map[string]*served
	closed bool
}

type served struct {
	docker   bool // its sandbox has Docker's resolver
	networks atomic.Pointer[[]netmap.NetworkID]
	mu       sync.Mutex // of what follows
	server   Server     // nil once it has failed or ended
	failed   error      // why it could not be started; it is tried again with the next refresh
}

// New returns a Sandboxes that serves nothing yet.
func New(cfg Config) *Sandboxes {
	return &Sandboxes{cfg: cfg, wake: make(chan struct{}, 1), served: map[string]*served{}}
}

// Changed says that the answer of Members may have changed. It never blocks.
func (s *Sandboxes) Changed() { turn.Poke(s.wake) }

// Run follows Members and refreshes until ctx ends; then it stops all servers. Containers have no
// answers until an agent has started again, or have Docker's three times Refresh later: with
// Docker's at once, names of other hosts would not exist during each upgrade.
func (s *Sandboxes) Run(ctx context.Context) {
	if s.cfg.Open == nil {
		return
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { s.cfg.Watch(ctx, s.Changed) })
	tick := time.NewTicker(Refresh)
	defer tick.Stop()
	s.Serve()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.wake:
			s.Serve()
		case <-tick.C:
			s.refresh()
			s.Serve()
		}
	}
	s.stop()
}

// Serve makes the servers those that Members ask for, as far as their sandboxes exist.
func (s *Sandboxes) Serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.cfg.Open == nil {
		return
	}
	wanted := bySandbox(s.cfg.Members())
	for path, one := range s.served {
		if _, ok := wanted[path]; !ok {
			one.end(Server.Close)
			delete(s.served, path)
		}
	}
	var failed []error
	for _, path := range slices.Sorted(maps.Keys(wanted)) {
		one := s.served[path]
		if one == nil {
			one = &served{docker: wanted[path].docker}
			s.served[path] = one
		}
		networks := wanted[path].networks
		one.networks.Store(&networks)
		if err := s.start(one, path); err != nil {
			failed = append(failed, err)
		}
	}
	s.show(failed)
}

// ErrNone says that this host has no container on a network that could be asked.
var ErrNone = errors.New("no container of this host is on the network, so it cannot be asked")

// AskDocker has Docker's resolver answer a query in a sandbox of some container that is on a
// network.
func (s *Sandboxes) AskDocker(ctx context.Context, network netmap.NetworkID, query *wire.Msg) (*wire.Msg, error) {
	s.mu.Lock()
	var server Server
	for _, path := range slices.Sorted(maps.Keys(s.served)) {
		one := s.served[path]
		one.mu.Lock()
		if server == nil && one.docker && slices.Contains(*one.networks.Load(), network) {
			server = one.server
		}
		one.mu.Unlock()
	}
	s.mu.Unlock()
	if server == nil {
		return nil, ErrNone
	}
	return server.AskDocker(ctx, query)
}

// start starts the server of a sandbox that has none. A sandbox that does not exist yet is no
// error.
func (s *Sandboxes) start(one *served, path string) error {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.server != nil || one.failed != nil {
		return one.failed
	}
	ns, err := s.cfg.Open(path)
	if errors.Is(err, netns.ErrNotExist) {
		return nil
	}
	if err == nil {
		one.server, err = s.cfg.Serve(ns, one.docker, func() []netmap.NetworkID { return *one.networks.Load() })
		err = errors.Join(err, ns.Close())
	}
	if err != nil {
		one.failed = fmt.Errorf("sandbox %s: %w", path, err)
	}
	return one.failed
}

// refresh keeps all servers in charge. One that cannot stay is ended and started again.
func (s *Sandboxes) refresh() {
	s.mu.Lock()
	all := maps.Clone(s.served)
	s.mu.Unlock()
	for path, one := range all {
		if one.docker || s.there(path) {
			one.refresh()
		} else {
			one.end(Server.Close)
		}
	}
}

// there reports whether a sandbox has not ended. Docker tells that; of others nobody does, and a server would hold the namespace.
func (s *Sandboxes) there(path string) bool {
	ns, err := s.cfg.Open(path)
	if err == nil {
		_ = ns.Close() // nothing was done in it
	}
	return !errors.Is(err, netns.ErrNotExist)
}

func (one *served) refresh() {
	one.mu.Lock()
	defer one.mu.Unlock()
	one.failed = nil
	if one.server != nil && one.server.Refresh() != nil {
		_ = one.server.Close() // its sandbox may have ended
		one.server = nil
	}
}

// end ends the server by one of its methods.
func (one *served) end(by func(Server) error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.server != nil {
		_ = by(one.server) // its sandbox may have ended
		one.server = nil
	}
}

func (s *Sandboxes) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, one := range s.served {
		one.end(Server.Stop)
	}
}

func (s *Sandboxes) show(failed []error) {
	sentence := ""
	if len(failed) > 0 {
		sentence = fmt.Sprintf("%d containers have the names of Docker on this host only, not of the cluster: %v; it is tried again every %s: mend what it says, or set WEFT_DNS=false", len(failed), failed[0], Refresh)
	}
	s.cfg.Problem("dns", sentence)
}

// wants is what a sandbox is to be served: the networks are in the order in which its container has them.
type wants struct {
	networks []netmap.NetworkID
	docker   bool
}

func bySandbox(members []Member) map[string]wants {
	rank := map[bool]int{true: 0, false: 1}
	slices.SortStableFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(rank[a.First], rank[b.First]), strings.Compare(a.Name, b.Name))
	})
	out := map[string]wants{}
	for _, m := range members {
		if w := out[m.Sandbox]; m.Sandbox != "" && !slices.Contains(w.networks, m.Network) {
			out[m.Sandbox] = wants{append(w.networks, m.Network), m.Docker}
		}
	}
	return out
}
