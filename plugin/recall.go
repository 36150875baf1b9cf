package plugin

import (
	"context"
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
)

// recall knows from Docker's events which containers ended and exist, so that one
// that is started again can get its address back. Engines before 29 do not say on
// whose behalf they ask for an address; but a container that starts was either
// created before, of which an event tells, or has run before. So as long as no
// container waits for its first start, and only one ended lately, it is that one. A
// wrong guess costs a container its old address and nothing else
// (docs/decisions/0011). Safe for concurrent use.
type recall struct {
	mu    sync.Mutex
	live  bool                 // events arrive
	fresh map[string]time.Time // when it was created, of those never started; by Docker's id
	ended map[string]end       // by Docker's id
}

type end struct {
	name string
	at   time.Time
}

// newRecall knows nothing yet.
func newRecall() *recall { return &recall{fresh: map[string]time.Time{}, ended: map[string]end{}} }

// recollect follows Docker's events, on a stream of its own: they must not wait for
// what is done about others.
func (a *Agent) recollect(ctx context.Context) {
	if a.cfg.Docker == nil {
		return
	}
	for e := range a.cfg.Docker.Watch(ctx) {
		a.recall.hear(e, time.Now())
	}
}

// hear takes in an event.
func (r *recall) hear(e dockerapi.Event, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case dockerapi.Resync, dockerapi.Lost: // what happened in between is not known
		r.live = e.Kind == dockerapi.Resync
		clear(r.fresh)
		clear(r.ended)
	case dockerapi.ContainerCreated:
		r.fresh[e.Container] = now
	case dockerapi.ContainerStarted, dockerapi.ContainerRemoved:
		delete(r.fresh, e.Container)
		delete(r.ended, e.Container)
	case dockerapi.ContainerDied:
		delete(r.fresh, e.Container)
		r.ended[e.Container] = end{name: e.Name, at: now}
		r.forget(now)
	case dockerapi.ContainerRenamed:
		if old, ok := r.ended[e.Container]; ok {
			r.ended[e.Container] = end{name: e.Name, at: old.at}
		}
	case dockerapi.NetworkCreated, dockerapi.NetworkRemoved, dockerapi.Connected, dockerapi.Disconnected:
	}
}

// forget drops what ended too long ago. The caller holds mu.
func (r *recall) forget(now time.Time) {
	for id, e := range r.ended {
		if now.Sub(e.at) > backAt {
			delete(r.ended, id)
		}
	}
}

// returning are the names of the containers of which one may be starting again,
// sorted; none where another may start as well.
func (r *recall) returning(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, at := range r.fresh {
		if now.Sub(at) > startsIn {
			delete(r.fresh, id)
		}
	}
	if !r.live || len(r.fresh) > 0 {
		return nil
	}
	for _, limit := range []time.Duration{backSoon, backAt} {
		var names []string
		for _, e := range r.ended {
			if now.Sub(e.at) <= limit {
				names = append(names, e.name)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			return names
		}
	}
	return nil
}
