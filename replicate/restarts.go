package replicate

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/dockerapi"
)

// How long after its end a container is expected to start again. A restart policy waits up to a
// minute, an operator may take a little longer.
const (
	backSoon = 15 * time.Second // docker restart
	backAt   = 5 * time.Minute
	// startsIn is how long a container that was created may wait for its first start.
	startsIn = 10 * time.Minute
	// heardIn is how late the event of a container's end may come.
	heardIn = 2 * time.Second
)

// Restarts learns from Docker's events which containers ended and exist, so that a container
// that starts again can get its address back. Docker before release 29 does not say for which
// container it requests an address. But a container that starts was either created before,
// which an event reports, or has run before. So if no container waits for its first start and
// only one ended lately, it is that one. A wrong guess costs a container its old address and
// nothing else (docs/decisions/0011). Safe for concurrent use.
type Restarts struct {
	mu    sync.Mutex
	live  bool                 // events are arriving
	fresh map[string]time.Time // when containers were created that never started, by Docker's id
	ended map[string]time.Time // when containers ended, by name
	// left is when a container left a network whose end was not reported yet, by name. Docker
	// 20.10 reports the end before; later releases report it after, and with docker restart
	// only milliseconds before they request an address again.
	left map[string]time.Time
}

// NewRestarts returns a Restarts that has heard no event.
func NewRestarts() *Restarts {
	return &Restarts{fresh: map[string]time.Time{}, ended: map[string]time.Time{}, left: map[string]time.Time{}}
}

// Follow handles Docker's events until ctx ends. It has a stream of its own, so that the
// Replicator's work does not delay it. Without a Docker it returns at once.
func (r *Restarts) Follow(ctx context.Context, d Docker) {
	if d == nil {
		return
	}
	for e := range d.Watch(ctx) {
		r.hear(e, time.Now())
	}
}

// hear handles an event.
func (r *Restarts) hear(e dockerapi.Event, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case dockerapi.Resync, dockerapi.Lost: // events were lost
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

// Left is called when a container left a network. Most likely it ends.
func (r *Restarts) Left(name string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, heard := r.ended[name]; name != "" && !heard {
		r.left[name] = now
	}
	forget(r.left, heardIn, now)
}

// forget deletes the entries that are older than a duration.
func forget(when map[string]time.Time, than time.Duration, now time.Time) {
	maps.DeleteFunc(when, func(_ string, at time.Time) bool { return now.Sub(at) > than })
}

// Returning returns the sorted names of the containers of which one may be starting again; none
// if a new container may be starting.
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
