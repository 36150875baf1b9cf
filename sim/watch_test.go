package sim_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/netmap"
)

// watchEvery is how often the hosts are looked at while they live.
const watchEvery = time.Second

// watcher checks invariant 8 while containers come and go. Then it means: no kernel differs from its
// host's facts for as long as convergeLimit; and if a fact about a host and the network between it
// and another host did not change for that long, the other host has the same fact.
type watcher struct {
	w       *world
	differs map[*life]time.Time // since when a kernel has not been seen to be right
	own     map[*life]ownFacts
}

// ownFacts are the facts that a host announces about itself, and since when.
type ownFacts struct {
	says    map[netmap.EndpointID]netmap.EndpointView
	at      map[netmap.EndpointID]time.Time // of the last change, of those that are gone too
	decided []uint64                        // the newest decision that it knew at the last looks
}

// watch looks on until ctx ends.
func (w *world) watch(ctx context.Context) {
	v := watcher{w, map[*life]time.Time{}, map[*life]ownFacts{}}
	for ctx.Err() == nil {
		time.Sleep(watchEvery)
		v.look(time.Now())
	}
}

func (v watcher) look(now time.Time) {
	lives := map[*host]*life{}
	for _, h := range v.w.hosts {
		l := h.running.Load()
		if l == nil {
			continue
		}
		lives[h] = l
		v.kernel(h, l, now)
		v.listen(l, now)
	}
	calm := v.w.calm(now)
	for x, lx := range lives {
		for y, ly := range lives {
			if x != y && calm >= convergeLimit && now.Sub(lx.since) >= convergeLimit && now.Sub(ly.since) >= convergeLimit {
				v.compare(x, y, lx, ly, now)
			}
		}
	}
}

// kernel notes whether a host's kernel is as its facts say.
func (v watcher) kernel(h *host, l *life, now time.Time) {
	want := l.agent.Desired()
	diff := ""
	if !want.Keep { // else it is not synced, and nothing is taken away
		diff = differ(want.Networks, l.kernel.Read().Networks)
		v.w.meet("watched: a kernel")
	}
	since, differed := v.differs[l]
	switch {
	case diff == "" || h.running.Load() != l:
		delete(v.differs, l)
	case !differed:
		v.differs[l] = now
	case now.Sub(since) > convergeLimit:
		v.w.fault("(8) the kernel of %s has not been what its facts say since %v (-facts +kernel):\n%s", h, now.Sub(since), diff)
		delete(v.differs, l)
	}
}

// differ is cmp.Diff, faster where there is no difference.
func differ[T any](a, b T) string {
	if reflect.DeepEqual(a, b) {
		return ""
	}
	return cmp.Diff(a, b, plain)
}

// listen notes what a host announces about itself.
func (v watcher) listen(l *life, now time.Time) {
	view, said := l.agent.View(), v.own[l]
	if said.at == nil {
		said.at = map[netmap.EndpointID]time.Time{}
	}
	says := map[netmap.EndpointID]netmap.EndpointView{}
	for e := range view.EndpointsOn(l.self) {
		says[e.ID] = e
	}
	for id, e := range says {
		if before, ok := said.says[id]; !ok || differ(before, e) != "" {
			said.at[id] = now
		}
	}
	for id := range said.says {
		if _, ok := says[id]; !ok {
			said.at[id] = now
		}
	}
	said.says = says
	said.decided = append(said.decided, view.Decided)
	if looks := int(convergeLimit/watchEvery) + 1; len(said.decided) > looks {
		said.decided = slices.Delete(said.decided, 0, 1)
	}
	v.own[l] = said
}

// compare checks that y has the facts that x has announced for long, and the decisions that x has.
func (v watcher) compare(x, y *host, lx, ly *life, now time.Time) {
	said, seen := v.own[lx], ly.agent.View()
	old := func(id netmap.EndpointID) bool { return now.Sub(said.at[id]) > convergeLimit+watchEvery }
	theirs := map[netmap.EndpointID]netmap.EndpointView{}
	for e := range seen.EndpointsOn(lx.self) {
		theirs[e.ID] = e
	}
	wrong := ""
	for id, e := range said.says {
		if !old(id) {
			continue
		}
		if diff := differ(e, theirs[id]); diff != "" {
			wrong = diff
		}
	}
	for id, e := range theirs {
		if _, says := said.says[id]; !says && old(id) {
			wrong = fmt.Sprintf("%v is gone", e)
		}
	}
	if decided := said.decided[0]; len(said.decided) > int(convergeLimit/watchEvery) && seen.Decided < decided {
		wrong = fmt.Sprintf("decision %d, the other knows %d", decided, seen.Decided)
	}
	v.w.meet("watched: a host's facts on another")
	if wrong != "" && x.running.Load() == lx && y.running.Load() == ly {
		v.w.fault("(8) %s does not see what %s has said for %v: %s", y, x, convergeLimit, wrong)
	}
}

// upset begins a time in which hosts may have different facts.
func (w *world) upset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calmSince = time.Time{}
}

// calmed ends it.
func (w *world) calmed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calmSince = time.Now()
}

// calm is for how long nothing was wrong between hosts.
func (w *world) calm(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calmSince.IsZero() {
		return 0
	}
	return now.Sub(w.calmSince)
}
