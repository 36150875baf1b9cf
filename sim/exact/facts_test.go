package exact_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
)

// facts is one agent's copy of all facts and its list of live hosts. It implements plugin.Gossip.
type facts struct {
	plugin.Gossip // what is not used here
	life          *life
	cfg           gossip.Config

	mu         sync.Mutex
	m          *netmap.Map
	subs       map[chan struct{}]struct{}
	memberSubs map[chan struct{}]struct{}
	waits      map[chan struct{}]struct{}   // of WaitDecided
	told       []map[chan struct{}]struct{} // who will hear
	synced     bool
	keeper     bool
	published  uint64
	members    map[*machine]gossip.Member

	// By the world alone:
	sent   uint64
	failed map[*machine]int
	twins  map[uint64]time.Duration
	gone   bool // it said goodbye
}

func newFacts(l *life, cfg gossip.Config) *facts {
	return &facts{
		life: l, cfg: cfg, m: netmap.NewMap(cfg.Cluster), subs: map[chan struct{}]struct{}{}, memberSubs: map[chan struct{}]struct{}{}, waits: map[chan struct{}]struct{}{}, members: map[*machine]gossip.Member{},
		failed: map[*machine]int{}, twins: map[uint64]time.Duration{}, synced: cfg.Lone && cfg.Cluster.IsZero(),
	}
}

// View implements plugin.Gossip.
func (f *facts) View() *netmap.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m.View()
}

// Removed implements plugin.Gossip.
func (f *facts) Removed(host netmap.HostID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m.Removed(host)
}

// Subscribe implements plugin.Gossip.
func (f *facts) Subscribe() (facts, members <-chan struct{}, cancel func()) {
	facts, endFacts := f.subscribe(f.subs)
	members, endMembers := f.subscribe(f.memberSubs)
	return facts, members, func() {
		endFacts()
		endMembers()
	}
}

func (f *facts) subscribe(to map[chan struct{}]struct{}) (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	f.mu.Lock()
	defer f.mu.Unlock()
	to[c] = struct{}{}
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(to, c)
	}
}

// notify wakes the callers that wait for a decision at once, and these subscribers a little later,
// so that several changes may wake them only once. The caller holds mu.
func (f *facts) notify(subs ...map[chan struct{}]struct{}) {
	wake(f.waits)
	told := len(f.told) > 0
	f.told = append(f.told, subs...)
	if !told && len(subs) > 0 {
		w := f.life.m.w
		w.arrive(f.life.m.n, "notify", func() {
			w.after(w.between(time.Millisecond, 200*time.Millisecond), func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				for _, subs := range f.told {
					wake(subs)
				}
				f.told = nil
			})
		})
	}
}

// concerned are the subscribers whom a batch concerns.
func (f *facts) concerned(e netmap.Effect) []map[chan struct{}]struct{} {
	if !e.Changed {
		return nil
	}
	return []map[chan struct{}]struct{}{f.subs}
}

func wake(all map[chan struct{}]struct{}) {
	for c := range all {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Synced implements plugin.Gossip.
func (f *facts) Synced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced
}

// Members implements plugin.Gossip.
func (f *facts) Members() []gossip.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []gossip.Member
	for _, m := range f.life.m.w.machines {
		if one, ok := f.members[m]; ok && !f.m.Removed(one.ID) && one.ID != f.cfg.Host {
			i := slices.IndexFunc(out, func(o gossip.Member) bool { return o.ID == one.ID })
			if i < 0 {
				out = append(out, one)
			} else if out[i].Start < one.Start { // of a host and its copy the later start is the host
				out[i] = one
			}
		}
	}
	slices.SortStableFunc(out, func(a, b gossip.Member) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

// sees reports whether a host counts as alive.
func (f *facts) sees(id netmap.HostID) bool {
	return slices.ContainsFunc(f.Members(), func(m gossip.Member) bool { return m.ID == id && m.Alive })
}

// Refused implements plugin.Gossip.
func (f *facts) Refused() []gossip.Refused   { return nil }
func (f *facts) Stats() gossip.Stats         { return gossip.Stats{} }
func (f *facts) Twin() (gossip.Member, bool) { return gossip.Member{}, false }

// SetCluster implements plugin.Gossip.
func (f *facts) SetCluster(id netmap.ClusterID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m.Cluster() == id {
		return
	}
	f.m.SetCluster(id)
	f.synced = f.cfg.Lone && len(f.members) == 0
	f.notify(f.subs, f.memberSubs)
}

// SetKeeper implements plugin.Gossip.
func (f *facts) SetKeeper(keeper bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keeper = keeper
}

// Close implements plugin.Gossip.
func (f *facts) Close() error { return nil }

// Announce implements plugin.Gossip.
func (f *facts) Announce(set map[netmap.Key]any, del []netmap.Key) error {
	var changes []netmap.Change
	for key, value := range set {
		changes = append(changes, netmap.Change{Key: key, Value: value})
	}
	for _, key := range del {
		if _, both := set[key]; !both {
			changes = append(changes, netmap.Change{Key: key})
		}
	}
	slices.SortFunc(changes, func(a, b netmap.Change) int { return a.Key.Compare(b.Key) })
	f.mu.Lock()
	defer f.mu.Unlock()
	effect, err := f.m.Append(f.cfg.Host, f.cfg.Start, changes)
	if err != nil {
		return err
	}
	if effect.Changed || effect.Advanced {
		f.notify(f.concerned(effect)...)
		w := f.life.m.w
		w.arrive(f.life.m.n, "facts", func() { f.spread(f.cfg.Host) })
	}
	return nil
}

// PublishDecisions implements plugin.Gossip.
func (f *facts) PublishDecisions(d gossip.Decisions) error {
	records, err := netmap.RecordsOf(d.Index, d.Changes)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	cluster := d.Cluster
	b := netmap.Batch{Origin: cluster, Life: d.Generation, Prev: f.published, Seq: d.Index, Whole: d.Whole, Records: records}
	if d.Whole {
		b.Prev = 0
	}
	f.published = d.Index
	effect, err := f.m.Apply(b)
	if err != nil {
		return err
	}
	if effect.Changed || effect.Advanced {
		f.notify(f.concerned(effect)...)
	}
	if d.Lead {
		w := f.life.m.w
		w.arrive(f.life.m.n, "decisions", func() { f.spread(cluster) })
	}
	return nil
}

// WaitDecided implements plugin.Gossip.
func (f *facts) WaitDecided(ctx context.Context, index uint64) error {
	changed, cancel := f.subscribe(f.waits)
	defer cancel()
	for {
		if f.decided() >= index {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w := f.life.m.w
		w.arrive(f.life.m.n, fmt.Sprintf("decision %d", index), func() { w.after(w.between(time.Millisecond, 20*time.Millisecond), f.fetch) })
		again := time.NewTimer(time.Second)
		for waiting := true; waiting; {
			select {
			case <-changed:
				waiting = f.decided() < index
			case <-again.C:
				waiting = false
			case <-ctx.Done():
				again.Stop()
				return fmt.Errorf("gossip: decision %d is not known here yet: %w", index, ctx.Err())
			}
		}
		again.Stop()
	}
}

func (f *facts) decided() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	head, _ := f.m.Head(f.m.Cluster())
	return head.Seq
}
