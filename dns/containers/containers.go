// Package containers learns from Docker how the containers of this host are called. Docker's
// plugin protocol does not say it: its events tell when to ask, and the answer about a container
// has the names on each of its networks.
package containers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// Pace of Follow.
const (
	retryAfter = time.Second // after Docker did not answer, or the disk
	// saveAfter is how long a change waits for others, to be one write with them. It is no whole
	// number of anything, so that in virtual time no change comes at the same moment.
	saveAfter = 1013 * time.Millisecond
	lookEvery = 30 * time.Second // for endpoints without a name, without a reason
	asking    = 16               // questions to Docker at a time
)

// Docker is the Docker Engine of this host. All methods are safe for concurrent use.
type Docker interface {
	Watch(ctx context.Context) <-chan dockerapi.Event
	Container(ctx context.Context, id string) (dockerapi.Container, error)
	Connected(ctx context.Context, network, container string) (netmap.EndpointID, string, error)
	Running(ctx context.Context) ([]string, error)
}

// Config says what is followed. The functions are called concurrently.
type Config struct {
	Docker Docker // nil: Follow returns at once
	Names  *Names // is saved when it has changed
	// Nameless reports whether an endpoint that is in a container has no name yet.
	Nameless func() bool
	// Called is given the names of an endpoint whenever Docker tells them, also where they
	// are as before. First says that its network comes before the others of its container.
	Called func(id netmap.EndpointID, names netmap.EndpointName, first bool)
	// Told is given all that Docker told about a container, after Called; nil: nobody is.
	Told func(c dockerapi.Container)
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
}

// Follow asks Docker about a container when an event says that its names may have changed, and
// about all when events were lost or an endpoint has no name, until ctx ends.
func Follow(ctx context.Context, cfg Config) {
	if cfg.Docker == nil {
		return
	}
	f := &follower{cfg: cfg, missed: map[string]bool{}, asked: map[string]bool{}, slots: make(chan struct{}, asking), again: time.NewTimer(lookEvery), clipped: map[string]bool{}}
	defer f.questions.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := cfg.Docker.Watch(ctx)
	save, armed := time.NewTimer(saveAfter), true
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			f.hear(ctx, e)
		case <-cfg.Names.changed:
			if !armed {
				save.Reset(saveAfter)
			}
			armed = true
		case <-save.C:
			if armed = cfg.Names.Save() != nil; armed { // the store shows why
				save.Reset(retryAfter)
			}
		case <-f.again.C:
			f.again.Reset(lookEvery)
			f.askMissed(ctx)
		}
	}
}

type follower struct {
	cfg       Config
	again     *time.Timer
	slots     chan struct{}
	questions sync.WaitGroup

	mu      sync.Mutex
	missed  map[string]bool // what Docker did not answer about: a container, or "" for which of them run
	asked   map[string]bool // containers that Docker is being asked about; true: ask again after that
	clipped map[string]bool // containers that have more names than are announced
}

func (f *follower) hear(ctx context.Context, e dockerapi.Event) {
	switch e.Kind {
	case dockerapi.Resync:
		f.askAll(ctx)
	case dockerapi.Connected, dockerapi.ContainerStarted, dockerapi.ContainerRenamed, dockerapi.ContainerHealth:
		f.ask(ctx, e.Container, e.Network)
	case dockerapi.ContainerRemoved:
		f.clip(e.Container, false)
	}
}

// greet tells the name of a container that Docker is about to start. Its other names follow when it
// has started.
func (f *follower) greet(ctx context.Context, container, network string) {
	if !f.begin(ctx) {
		return
	}
	defer f.end()
	endpoint, name, err := f.cfg.Docker.Connected(ctx, network, container)
	if err != nil || endpoint == "" || f.cfg.Names.Container(endpoint) != "" {
		return // the other question finds it out, or has done so
	}
	f.cfg.Called(endpoint, netmap.EndpointName{Name: name, Short: container[:min(12, len(container))]}, false)
}

// begin waits until one more question may be asked, false if ctx ends before.
func (f *follower) begin(ctx context.Context) bool {
	select {
	case f.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (f *follower) end() { <-f.slots }

// miss has Docker asked about a container again soon, or about all if the id is empty.
func (f *follower) miss(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missed[id] = true
	f.again.Reset(retryAfter)
}

// askMissed asks again what Docker did not answer, and about all if an endpoint has no name.
func (f *follower) askMissed(ctx context.Context) {
	f.mu.Lock()
	missed := slices.Sorted(maps.Keys(f.missed))
	clear(f.missed)
	f.mu.Unlock()
	if slices.Contains(missed, "") || f.cfg.Nameless() {
		f.askAll(ctx)
		return
	}
	for _, id := range missed {
		f.ask(ctx, id, "")
	}
}

func (f *follower) askAll(ctx context.Context) {
	all, err := f.cfg.Docker.Running(ctx)
	if err != nil {
		f.miss("")
		return
	}
	for _, id := range all {
		f.ask(ctx, id, "")
	}
}

// ask asks about a container beside, because Docker answers only when it has started it. While
// it is being asked one more question is kept in mind, however many come. The network, if there is
// one, is the one that the container was connected to.
func (f *follower) ask(ctx context.Context, id, network string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, busy := f.asked[id]; busy || id == "" {
		f.asked[id] = busy
		return
	}
	f.asked[id] = false
	f.questions.Go(func() {
		if network != "" {
			f.greet(ctx, id, network)
		}
		for next := true; next; {
			f.answer(ctx, id)
			f.mu.Lock()
			next = f.asked[id] && ctx.Err() == nil
			f.asked[id] = false
			if !next {
				delete(f.asked, id)
			}
			f.mu.Unlock()
		}
	})
}

func (f *follower) answer(ctx context.Context, id string) {
	if !f.begin(ctx) {
		return
	}
	defer f.end()
	c, err := f.cfg.Docker.Container(ctx, id)
	if err != nil {
		f.miss(id)
		return
	}
	clipped := false
	for endpoint, names := range c.Names {
		kept := bounded(names)
		f.cfg.Called(endpoint, kept, endpoint == c.First)
		clipped = clipped || len(kept.Aliases) < len(names.Aliases) || len(kept.Services) < len(names.Services)
	}
	f.clip(id, clipped)
	if f.cfg.Told != nil {
		f.cfg.Told(c)
	}
}

// clip shows how many containers have more names than others are told of.
func (f *follower) clip(id string, clipped bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if clipped == f.clipped[id] {
		return
	}
	delete(f.clipped, id)
	if clipped {
		f.clipped[id] = true
	}
	sentence := ""
	if n := len(f.clipped); n > 0 {
		sentence = fmt.Sprintf("containers with aliases that no name in DNS can be, or with more than %d aliases or %d ports: %d; the rest of them is not found by other hosts: give each fewer network aliases", netmap.MaxAliases, netmap.MaxServices, n)
	}
	f.cfg.Problem("names", sentence)
}

// maxName is the longest name in DNS, in bytes of text.
const maxName = 253

// bounded leaves out of the names what no name in DNS can be, and what is too much.
func bounded(n netmap.EndpointName) netmap.EndpointName {
	var aliases []string
	for _, alias := range n.Aliases {
		if usable(alias) && len(aliases) < netmap.MaxAliases {
			aliases = append(aliases, alias)
		}
	}
	n.Aliases = aliases
	n.Services = n.Services[:min(len(n.Services), netmap.MaxServices)]
	for _, name := range []*string{&n.Hostname, &n.App} {
		if !usable(*name) {
			*name = ""
		}
	}
	return n
}

func usable(name string) bool {
	return len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}
