package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

const (
	// every is how often Consul is asked what it has: a Consul that lost its services has them
	// again within that time. It is no whole number of seconds, as other loops have.
	every = 10007 * time.Millisecond
	// retry is the pause after Consul did not answer.
	retry = 2017 * time.Millisecond
	// roundTimeout bounds all requests of one look together.
	roundTimeout = 59 * time.Second
	// mostMetadata is how many bytes of SERVICE_ settings a container may have.
	mostMetadata = 32 << 10
)

// Config says whose containers are registered, and where.
type Config struct {
	URL   string // of the Consul agent; empty: nothing is registered
	State string // the state directory, which has the token and the CA
	Self  netmap.HostID
	Facts follow.Source
	// Endpoint finds an endpoint of this host, joined or not.
	Endpoint func(netmap.EndpointID) (attach.EndpointRecord, bool)
	Disk     Disk
	Dial     Dial
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
	Log     *slog.Logger
}

// Registrar keeps the services of a Consul agent. Run is called once; Told is safe for
// concurrent use.
type Registrar struct {
	cfg  Config
	wake chan struct{}

	mu    sync.Mutex
	known map[netmap.EndpointID]*dockerapi.Container // that Docker told of
}

// New makes a registrar that Run sets to work.
func New(cfg Config) *Registrar {
	return &Registrar{cfg: cfg, wake: make(chan struct{}, 1), known: map[netmap.EndpointID]*dockerapi.Container{}}
}

// Told is called with what Docker says about a container.
func (r *Registrar) Told(c dockerapi.Container) {
	if r.cfg.URL == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range c.Names {
		r.known[id] = &c
	}
	turn.Poke(r.wake)
}

// Run registers and deregisters until ctx ends. When it ends the services stay, because the
// containers do: the next agent finds them.
func (r *Registrar) Run(ctx context.Context) {
	before := r.earlier()
	if r.cfg.URL == "" && len(before.keys) == 0 {
		return
	}
	for look := range follow.Facts(ctx, r.cfg.Facts, follow.When{Every: every, Wake: r.wake, Of: r.concerns}) {
		before.forget(ctx, r)
		if r.cfg.URL == "" {
			if len(before.keys) == 0 {
				return
			}
			continue
		}
		err := r.reconcile(ctx, look.View())
		if ctx.Err() != nil {
			return
		}
		if r.cfg.Problem("consul", explain(r.cfg.URL, r.cfg.State, err)); err != nil && !refused(err) {
			look.Again(retry)
		}
	}
}

// concerns reports whether changes are about endpoints of this host.
func (r *Registrar) concerns(c netmap.Changes) bool {
	return slices.ContainsFunc(c.Endpoints, func(e netmap.Changed[netmap.EndpointView]) bool {
		return e.New != nil && e.New.Host == r.cfg.Self || e.Old != nil && e.Old.Host == r.cfg.Self
	})
}

// reconcile makes Consul's services equal to this host's containers. It registers before it
// deregisters, so that a name is never without an answer. A service that Consul refuses does
// not keep others out.
func (r *Registrar) reconcile(ctx context.Context, view *netmap.View) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	c, err := open(r.cfg.URL, r.cfg.State, r.cfg.Dial)
	if err != nil {
		return err
	}
	defer c.close()
	has, err := c.services(ctx)
	if err != nil {
		return err
	}
	want, untold, excess := r.wanted(view)
	register, deregister := plan(want, has, func(host netmap.HostID, endpoint string) bool {
		if h, ok := view.Host(host); ok && h.Entry.Removed {
			return true // of a dead host that had the same Consul agent, or of this one as it was before
		}
		return host == r.cfg.Self && !untold[endpoint]
	})
	for _, s := range register {
		if err := c.register(ctx, s); err != nil {
			excess = append(excess, fmt.Errorf("service %s of container %s: %w", s.Name, s.Meta[metaContainer], err))
			if !refused(err) {
				return excess[len(excess)-1]
			}
		}
	}
	for _, id := range deregister {
		if err := c.deregister(ctx, id); err != nil {
			return fmt.Errorf("deregister %s: %w", id, err)
		}
	}
	return errors.Join(excess...)
}

// wanted returns the services of this host's containers, the endpoints that Docker has told
// nothing about yet, and what cannot be registered.
func (r *Registrar) wanted(view *netmap.View) (want []Service, untold map[string]bool, excess []error) {
	untold = map[string]bool{}
	on := map[netmap.EndpointID]netmap.EndpointView{}
	for e := range view.EndpointsOn(r.cfg.Self) {
		if !e.OfHost() {
			on[e.ID] = e
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.known {
		if _, there := r.cfg.Endpoint(id); !there {
			delete(r.known, id)
		}
	}
	for e := range view.EndpointsOn(r.cfg.Self) {
		told := r.known[e.ID]
		if told == nil || e.Names == nil {
			untold[shortened(e.ID)] = true
			continue
		}
		if e.ID != first(*told, on) {
			continue
		}
		if size := sizeOf(told.Metadata); size > mostMetadata {
			excess = append(excess, fmt.Errorf("container %s has %d bytes of SERVICE_ settings, at most %d are registered: %w", e.Names.Name, size, mostMetadata, errRefused))
			continue
		}
		want = append(want, services(r.cfg.Self, Container{
			Endpoint: e.ID, Name: e.Names.Name, Short: e.Names.Short, App: e.Names.App, Image: told.Image,
			V4: e.V4, V6: e.V6, Ports: e.Names.Services, Metadata: told.Metadata,
		})...)
	}
	return want, untold, excess
}

// first is the endpoint of a container that is registered: on the network of its --network, or
// else the one with the smallest id.
func first(c dockerapi.Container, on map[netmap.EndpointID]netmap.EndpointView) (out netmap.EndpointID) {
	if _, there := on[c.First]; there {
		return c.First
	}
	for id := range c.Names {
		if _, there := on[id]; there && (out == "" || id < out) {
			out = id
		}
	}
	return out
}

func sizeOf(metadata map[string]string) (bytes int) {
	for key, value := range metadata {
		bytes += len(key) + len(value)
	}
	return bytes
}

// errRefused is wrapped by what Weft refuses in Consul's place.
var errRefused = errors.New("remove some")

// refused reports whether an error is about single services only.
func refused(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !refused(err) })
	}
	r := (*refusal)(nil)
	return errors.Is(err, errRefused) || errors.As(err, &r) && r.about()
}

// explain says what is wrong with Consul, and what to do; "" if nothing is.
func explain(url, state string, err error) string {
	if err == nil {
		return ""
	}
	count, example := 1, err
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		count, example = len(joined.Unwrap()), joined.Unwrap()[0]
	}
	do := "start this host's Consul agent, or set WEFT_CONSUL to its address"
	r := (*refusal)(nil)
	switch {
	case errors.As(err, &r) && (r.status == http.StatusForbidden || r.status == http.StatusUnauthorized):
		do = fmt.Sprintf("put a token with service:write for these names into %s/%s", state, tokenFile)
	case refused(err):
		do = "change the SERVICE_ settings of the container"
	case errors.As(err, &r):
		do = "the log of Consul has the reason"
	case strings.Contains(err.Error(), "x509: "):
		do = fmt.Sprintf("put the certificate of Consul's CA into %s/%s", state, caFile)
	}
	if refused(err) && count > 1 {
		return fmt.Sprintf("Consul at %s refuses services of this host's containers, %d in all, such as: %v; %s", url, count, example, do)
	}
	return fmt.Sprintf("Consul at %s may not have the services of this host's containers as they are now: %v; %s", url, example, do)
}
