// Package multicast knows the interfaces of containers on their networks of Weft, and leads their multicasts over them. Without a
// route of their own they would take the container's default route, which leads to Docker's gateway
// bridge. Docker cannot be asked for that route: a container on two networks that have it does
// not start.
package multicast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

// Pauses between attempts while an interface is not yet in its container: each is twice the one
// before.
const (
	shortPause = 5 * time.Millisecond
	longPause  = 5 * time.Second
)

// Member is an endpoint in the sandbox of a container.
type Member struct {
	Endpoint netmap.EndpointID
	Sandbox  string // the path of the namespace in the mount namespace of dockerd
	MAC      netmap.MAC
	Groups   bool // the network has multicast, and the endpoint an IPv4 address
}

// Config says where the routes go.
type Config struct {
	// Members lists the endpoints in sandboxes.
	Members func() []Member
	// Open opens the namespace of a sandbox. The error is netns.ErrNotExist while Docker has not
	// made it. nil: no route is made.
	Open func(path string) (*netns.Namespace, error)
	// Route returns the name of the interface with a MAC, empty while that is not up in the
	// container. With groups it makes the route over it.
	Route func(ns *netns.Namespace, mac netmap.MAC, groups bool) (name string, err error)
	// Restore makes an interface again that a container has lost, with the name that it had there.
	Restore func(ctx context.Context, m Member, ns *netns.Namespace, name string) error
	// Gone is told of an endpoint whose interface and sandbox are both gone; nil: nobody is.
	Gone func(ctx context.Context, id netmap.EndpointID)
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
}

// Routes are those of this host's containers.
type Routes struct {
	cfg  Config
	wake chan struct{}

	mu   sync.Mutex
	done map[Member]string // the names of the interfaces
}

// New returns Routes that has made none.
func New(cfg Config) *Routes {
	return &Routes{cfg: cfg, wake: make(chan struct{}, 1), done: map[Member]string{}}
}

// Changed says that the answer of Members may have changed, or that an interface has been moved
// into a container. It never blocks and may be called at any time.
func (r *Routes) Changed() { turn.Poke(r.wake) }

// Restore has the interfaces of these endpoints made again, which somebody has deleted, where their containers are still
// there. It returns how many it made.
func (r *Routes) Restore(ctx context.Context, ids []netmap.EndpointID) (restored int) {
	if r.cfg.Open == nil || r.cfg.Restore == nil {
		return 0
	}
	sentence := ""
	for _, m := range r.cfg.Members() {
		if !slices.Contains(ids, m.Endpoint) {
			continue
		}
		made, err := r.restore(ctx, m)
		if made {
			restored++
		}
		if err != nil {
			sentence = fmt.Sprintf("the container of endpoint %.12s has lost its interface, which cannot be made again: %v; restart the container, or disconnect it from the network and connect it", m.Endpoint, err)
		}
	}
	r.cfg.Problem("interfaces", sentence)
	return restored
}

func (r *Routes) restore(ctx context.Context, m Member) (made bool, err error) {
	ns, err := r.cfg.Open(m.Sandbox)
	if errors.Is(err, netns.ErrNotExist) {
		if r.cfg.Gone != nil { // the container is gone too
			r.cfg.Gone(ctx, m.Endpoint)
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	r.mu.Lock()
	name := r.done[m]
	r.mu.Unlock()
	if name == "" {
		return false, errors.New("its name is not known: it was deleted before the agent had seen it")
	}
	if err := r.cfg.Restore(ctx, m, ns, name); err != nil {
		return false, err
	}
	r.mu.Lock()
	delete(r.done, m) // its route is to be made again
	r.mu.Unlock()
	r.Changed()
	return true, nil
}

// Run makes routes until ctx ends. It asks for Members from time to time without being told.
func (r *Routes) Run(ctx context.Context) {
	if r.cfg.Open == nil || r.cfg.Route == nil {
		return
	}
	pause := shortPause
	for ctx.Err() == nil {
		if !r.look() {
			pause = longPause
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
			pause = shortPause
		case <-time.After(pause):
			pause = min(2*pause, longPause)
		}
	}
}

// look makes the routes that are missing. It reports whether it waits for an interface.
func (r *Routes) look() (waits bool) {
	var failed error
	for _, m := range r.undone() {
		switch name, err := r.route(m); {
		case err != nil:
			failed = fmt.Errorf("endpoint %.12s: %w", m.Endpoint, err)
		case name == "":
			waits = true
		default:
			r.mu.Lock()
			r.done[m] = name
			r.mu.Unlock()
		}
	}
	sentence := ""
	if failed != nil {
		sentence = fmt.Sprintf("multicasts of a container leave by Docker's bridge and not by its network: %v; it is tried again every %s", failed, longPause)
	}
	r.cfg.Problem("multicast", sentence)
	return waits
}

// undone returns the members that have not been seen in their sandboxes, and forgets those that left.
func (r *Routes) undone() (out []Member) {
	members := r.cfg.Members()
	r.mu.Lock()
	defer r.mu.Unlock()
	done := map[Member]string{}
	for _, m := range members {
		if name := r.done[m]; name != "" {
			done[m] = name
		} else {
			out = append(out, m)
		}
	}
	r.done = done
	return out
}

func (r *Routes) route(m Member) (name string, err error) {
	ns, err := r.cfg.Open(m.Sandbox)
	if errors.Is(err, netns.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name, err = r.cfg.Route(ns, m.MAC, m.Groups)
	return name, errors.Join(err, ns.Close())
}
