package e2e

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/turn"
)

// fault is something that is done to a host, or to all.
type fault struct {
	name string
	do   func(c *chaos, h *lab.Host, r *rand.Rand) error
}

// faults of agents and of Docker. One at a time is done: Docker itself does not survive all of them together.
var faults = []fault{
	{"kill -9 of an agent", func(c *chaos, h *lab.Host, r *rand.Rand) error {
		return c.hit(h, r.IntN(2), upTo(r, 700*time.Millisecond))
	}},
	{"kill -9 of all agents", func(c *chaos, _ *lab.Host, r *rand.Rand) error {
		how, within := r.IntN(2), upTo(r, 200*time.Millisecond)
		return each(c.members(), func(h *lab.Host) error { return c.hit(h, how, within) })
	}},
	{"plugin disabled and enabled", func(c *chaos, h *lab.Host, r *rand.Rand) error {
		if _, err := h.Docker(c.t.Context(), "plugin", "disable", "-f", lab.PluginName); err != nil {
			return err
		}
		turn.Sleep(c.t.Context(), upTo(r, 3*time.Second))
		_, err := h.Docker(c.t.Context(), "plugin", "enable", lab.PluginName)
		return err
	}},
	{"kill -9 of dockerd", func(c *chaos, h *lab.Host, r *rand.Rand) error {
		return c.without(h, func() error {
			if err := h.KillDocker(c.t.Context()); err != nil {
				return err
			}
			turn.Sleep(c.t.Context(), upTo(r, 2*time.Second))
			return h.StartDocker(c.t.Context(), c.dockerArgs(h)...)
		})
	}},
	{"restart of dockerd", func(c *chaos, h *lab.Host, _ *rand.Rand) error {
		return c.without(h, func() error { return h.RestartDocker(c.t.Context()) })
	}},
}

func (c *chaos) dockerArgs(h *lab.Host) []string {
	if h == c.frail {
		return nil
	}
	return []string{"--live-restore"}
}

// without does something that ends dockerd, and with it the containers of the frail host.
func (c *chaos) without(h *lab.Host, do func() error) error {
	c.removing.Lock()
	defer c.removing.Unlock()
	if h == c.frail {
		c.mu.Lock()
		c.epoch++
		for a, who := range c.tenants { // who has an address may lose it from now on
			if whose(who) == h.Name() {
				delete(c.tenants, a)
			}
		}
		c.mu.Unlock()
	}
	return do()
}

// cutting are faults of links. They last, beside the others.
var cutting = []fault{
	{"cut between two hosts", func(c *chaos, h *lab.Host, r *rand.Rand) error {
		return c.cut(lab.Between(h.Number(), c.another(h, r).Number()), r)
	}},
	{"one-way cut", func(c *chaos, h *lab.Host, r *rand.Rand) error {
		return c.cut(lab.OneWay(h.Number(), c.another(h, r).Number()), r)
	}},
	{"host cut off", func(c *chaos, h *lab.Host, r *rand.Rand) error {
		return c.cut(lab.Off(h.Number()), r)
	}},
}

func (c *chaos) another(than *lab.Host, r *rand.Rand) *lab.Host {
	all := slices.DeleteFunc(slices.Clone(c.members()), func(h *lab.Host) bool { return h == than })
	return all[r.IntN(len(all))]
}

// past is a cut that was.
type past struct {
	lab.Cut
	since, until time.Time
}

// longCut is longer than memberlist remembers its dead.
const longCut = cutFor

// cut cuts a link for some seconds; in a long chaos now and then so long that hosts forget each other.
func (c *chaos) cut(cut lab.Cut, r *rand.Rand) error {
	length := time.Second + upTo(r, 7*time.Second)
	if r.IntN(6) == 0 && c.lasts >= 4*longCut {
		length = longCut
	}
	c.did("cut", "%s for %.1f s", cut, length.Seconds())
	since := time.Now()
	if err := c.lab.Cut(c.t.Context(), cut); err != nil {
		return err
	}
	turn.Sleep(c.t.Context(), length)
	err := c.lab.Heal(context.WithoutCancel(c.t.Context()), cut)
	c.mu.Lock()
	c.cuts = append(c.cuts, past{cut, since, time.Now()})
	c.mu.Unlock()
	c.did("healed", "%s", cut)
	return err
}

// unleash does faults, and lets Docker's users work, for as long as the chaos lasts.
func (c *chaos) unleash() {
	c.t.Helper()
	c.began, c.endStorm = time.Now(), func() {}
	ctx, cancel := context.WithTimeout(c.t.Context(), c.lasts)
	defer cancel()
	c.all.Go(c.watch)
	var all sync.WaitGroup
	all.Go(func() { c.repeat(ctx, faults, c.chance(1), 2*time.Second) })
	all.Go(func() { c.repeat(ctx, cutting, c.chance(2), 5*time.Second) })
	for i, h := range c.members() {
		c.all.Go(func() { c.churn(h, c.chance(10+i)) })
	}
	all.Wait()
}

// repeat does every fault once, in an order of its own, and then again until the chaos is over, with pauses.
func (c *chaos) repeat(ctx context.Context, some []fault, r *rand.Rand, pause time.Duration) {
	for round := 0; ctx.Err() == nil; round++ {
		for _, i := range r.Perm(len(some)) {
			h := c.members()[r.IntN(members)]
			if turn.Sleep(c.t.Context(), pause/4+upTo(r, pause)); round > 0 && ctx.Err() != nil || c.t.Context().Err() != nil {
				return
			}
			c.did(some[i].name, "(%s)", h.Name())
			if err := some[i].do(c, h, r); err != nil {
				c.accuse("%s of %s: %v", some[i].name, h.Name(), err)
				return
			}
		}
	}
}

// upTo is a time below a limit.
func upTo(r *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(limit)))
}
