package replicate

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/dockerapi"
)

// How long after its end a container is expected back. A restart policy waits up to
// a minute, an operator may take a little longer.
const (
	backSoon = 15 * time.Second // docker restart
	backAt   = 5 * time.Minute
	// startsIn is how long a container that was created may wait for its first start.
	startsIn = 10 * time.Minute
	// heardIn is when the event of a container's end has come at the latest.
	heardIn = 2 * time.Second
)

// Restarts knows from Docker's events which containers ended and exist, so that one
// that is started again can get its address back. Engines before 29 do not say on
// whose behalf they ask for an address; but a container that starts was either
// created before, of which an event tells, or has run before. So as long as no
// container waits for its first start, and only one ended lately, it is that one. A
// wrong guess costs a container its old address and nothing else
// (docs/decisions/0011). Safe for concurrent use.
type Restarts struct {
	mu    sync.Mutex
	live  bool                 // events arrive
	fresh map[string]time.Time // when it was created, of those never started; by Docker's id
	ended map[string]time.Time // by name
	// left is when a container whose end is not heard of left a network, by name. 20.10
	// tells of the end before that; later engines after it, and with docker restart only
	// milliseconds before they ask for an address again.
	left map[string]time.Time
}

// NewRestarts knows nothing yet.
func NewRestarts() *Restarts {
	return &Restarts{fresh: map[string]time.Time{}, ended: map[string]time.Time{}, left: map[string]time.Time{}}
}

// Follow takes in Docker's events until ctx ends, on a stream of its own: they must not wait
// for what is done about others. Without a Docker it returns at once.
func (r *Restarts) Follow(ctx context.Context, d Docker) {
	if d == nil {
		return
	}
	for e := range d.Watch(ctx) {
		r.hear(e, time.Now())
	}
}

// hear takes in an event.
func (r *Restarts) hear(e dockerapi.Event, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case dockerapi.Resync, dockerapi.Lost: // what happened in between is not known
		r.live = e.Kind == dockerapi.Resync
		clear(r.fresh)
		clear(r.ended)
		clear(r.left)
	case dockerapi.ContainerCreated:
		r.fresh[e.Container] = now
	case dockerapi.ContainerStarted, dockerapi.ContainerRemoved:
		delete(r.fresh, e.Container)
		delete(r.ended, e.Name)
		delete(r.left, e.Name)
	case dockerapi.ContainerDied:
		delete(r.fresh, e.Container)
		delete(r.left, e.Name)
		r.ended[e.Name] = now
		forget(r.ended, backAt, now)
	case dockerapi.ContainerRenamed:
		if at, ok := r.ended[e.OldName]; ok {
			delete(r.ended, e.OldName)
			r.ended[e.Name] = at
		}
	case dockerapi.NetworkCreated, dockerapi.NetworkRemoved, dockerapi.Connected, dockerapi.Disconnected:
	}
}

// Left is told that a container left a network: most likely it ends.
func (r *Restarts) Left(name string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, heard := r.ended[name]; name != "" && !heard {
		r.left[name] = now
	}
	forget(r.left, heardIn, now)
}

// forget drops what is longer ago.
func forget(when map[string]time.Time, than time.Duration, now time.Time) {
	maps.DeleteFunc(when, func(_ string, at time.Time) bool { return now.Sub(at) > than })
}

// Returning returns the names of the containers of which one may be starting again,
// sorted; none where another container may start as well.
func (r *Restarts) Returning(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	forget(r.fresh, startsIn, now)
	forget(r.left, heardIn, now)
	if !r.live || len(r.fresh) > 0 {
		return nil
	}
	names := slices.Collect(maps.Keys(r.left))
	for _, limit := range []time.Duration{backSoon, backAt} {
		for name, at := range r.ended {
			if now.Sub(at) <= limit {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			return names
		}
	}
	return nil
}
