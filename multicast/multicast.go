// Package multicast leads the multicasts of containers into their networks of Weft. Without a
// route of their own they would take the container's default route, which leads to Docker's gateway
// bridge. Docker cannot be asked for that route: a container on two networks that have it does
// not start.
package multicast

import (
	"context"
	"errors"
	"fmt"
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
}

// Config says where the routes go. All functions are called by one goroutine.
type Config struct {
	// Members lists the endpoints with an IPv4 address on networks with multicast.
	Members func() []Member
	// Open opens the namespace of a sandbox. The error is netns.ErrNotExist while Docker has not
	// made it. nil: no route is made.
	Open func(path string) (*netns.Namespace, error)
	// Route makes the route over the interface with a MAC. It reports false while that is not up
	// in the container.
	Route func(ns *netns.Namespace, mac netmap.MAC) (made bool, err error)
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
}

// Routes are those of this host's containers.
type Routes struct {
	cfg  Config
	wake chan struct{}
	done map[Member]bool
}

// New returns Routes that has made none.
func New(cfg Config) *Routes {
	return &Routes{cfg: cfg, wake: make(chan struct{}, 1), done: map[Member]bool{}}
}

// Changed says that the answer of Members may have changed, or that an interface has been moved
// into a container. It never blocks and may be called at any time.
func (r *Routes) Changed() { turn.Poke(r.wake) }

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
	members, done := r.cfg.Members(), map[Member]bool{}
	var failed error
	for _, m := range members {
		made, err := r.done[m], error(nil)
		if !made {
			made, err = r.route(m)
		}
		switch {
		case err != nil:
			failed = fmt.Errorf("endpoint %.12s: %w", m.Endpoint, err)
		case made:
			done[m] = true
		default:
			waits = true
		}
	}
	r.done = done
	sentence := ""
	if failed != nil {
		sentence = fmt.Sprintf("multicasts of a container leave by Docker's bridge and not by its network: %v; it is tried again every %s", failed, longPause)
	}
	r.cfg.Problem("multicast", sentence)
	return waits
}

func (r *Routes) route(m Member) (made bool, err error) {
	ns, err := r.cfg.Open(m.Sandbox)
	if errors.Is(err, netns.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	made, err = r.cfg.Route(ns, m.MAC)
	return made, errors.Join(err, ns.Close())
}
