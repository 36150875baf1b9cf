package exact_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
)

// scene is a story that somebody chose, on hosts that have the networks; only how long
// things take is left to the seed. After it everything heals, as in any seed.
type scene struct {
	name string // with the number in the list of known failures (gossip models)
	n    int    // hosts
	play func(w *world, h []*machine)
}

// stage has the hosts found a cluster and make both networks.
func (w *world) stage(n int) []*machine {
	w.style.loss, w.style.double, w.style.late, w.style.foreign = 0, 0, 0, 0
	w.ledger.want = 3
	for range n {
		w.newMachine()
	}
	w.after(time.Second, w.ledger.manage)
	w.after(5*time.Second, w.nurse)
	return w.machines
}

// up starts hosts, the first of which founds, and waits until they have networks.
func (w *world) up(hosts ...*machine) {
	if w.expect == 0 {
		w.machines[0].joins = false
	}
	for _, m := range hosts {
		m.start()
		w.run(w.now() + 50*time.Millisecond)
	}
	w.eventually("all are members", time.Minute, func() string {
		for _, m := range hosts {
			if w.ledger.heard[m.identity()] == 0 {
				return m.String()
			}
		}
		return ""
	})
	if len(hosts) >= w.ledger.want {
		w.eventually("all keepers are chosen", time.Minute, func() string {
			if n := len(w.ledger.keepers); n < w.ledger.want {
				return fmt.Sprint(n)
			}
			return ""
		})
	}
	for _, m := range hosts {
		for _, spec := range networks[:2] {
			w.must(m, "network create", func(ctx context.Context) error {
				_, err := m.docker.CreateNetwork(ctx, spec)
				return err
			})
		}
	}
}

// finish does something on a host and waits for the end of it.
func (w *world) finish(m *machine, what string, do func(context.Context) error) (err error) {
	ended := false
	m.busy++
	m.made++
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	go func() {
		defer cancel()
		got := do(ctx)
		w.arrive(m.n, "2 done "+what, func() { err, ended = got, true; m.busy-- })
	}()
	for !ended && len(w.fault) == 0 {
		w.run(w.now() + 5*time.Millisecond)
	}
	w.note("%s: %s: %v", m, what, err)
	return err
}

func (w *world) must(m *machine, what string, do func(context.Context) error) {
	if err := w.finish(m, what, do); err != nil {
		w.wrong("%s: %s: %v", m, what, err)
	}
}

// runs starts a container on a network; an empty address is any.
func (m *machine) runs(network, addr string) func(context.Context) error {
	want, _ := netip.ParseAddr(addr)
	name, id := fmt.Sprintf("c%d-%d", m.n, m.made), m.network(network)
	return func(ctx context.Context) error {
		_, err := m.docker.Run(ctx, name, id, want)
		if err != nil {
			_ = m.docker.Remove(ctx, name) // it does not run
		}
		return err
	}
}

// refused checks that an error has all of the words.
func (w *world) refused(m *machine, do func(context.Context) error, words ...string) {
	err := w.finish(m, "what is refused", do)
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			w.wrong("%s: %v; want a refusal that says %q", m, err, word)
		}
	}
}

// removes is `weft host rm`.
func (m *machine) removes(o *machine, off bool) func(context.Context) error {
	id := o.identity()
	return func(ctx context.Context) error {
		_, err := m.life.agent.RemoveHost(ctx, api.Removal{Host: id.String(), IsOff: off})
		return err
	}
}

// beside runs two functions at once.
func (w *world) beside(a, b *machine, doA, doB func(context.Context) error) {
	a.act(action{name: "beside", do: func(*machine) func(context.Context) error { return doA }})
	w.run(w.now() + w.between(0, 3*time.Millisecond))
	b.act(action{name: "beside", do: func(*machine) func(context.Context) error { return doB }})
}

// stagedBy runs a scene and heals everything after it.
func (s scene) stagedBy(t *testing.T, seed uint64) *world {
	t.Helper()
	return inBubble(t, seed, false, func(w *world) {
		s.play(w, w.stage(s.n))
		w.recover()
	})
}

// TestScenes plays every scene under some seeds.
func TestScenes(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			for seed := uint64(1); seed <= seeds; seed++ {
				w := s.stagedBy(t, seed)
				if len(w.fault) > 0 {
					t.Fatalf("seed %d: %s", seed, strings.Join(w.fault, "\n"))
				}
			}
		})
	}
}
