package exact_test

import (
	"context"
	"net/netip"
	"time"
)

// ofHands are scenes about an address that passes from one host or container to another.
var ofHands = []scene{
	{"who ceded an address starts again, alone", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.givenAway(h[2], h[1])
		w.isolate(h[2])
		w.lasting = true
		w.crashAgent(h[2])
		w.run(w.now() + 3*time.Second)
		w.finish(h[2], "run", h[2].runs("web", "")) // in the block in which nothing else is free
	}},
	{"who cedes an address wants it before the ledger has heard", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[1], "run", h[1].runs("web", ""))
		w.run(w.now() + 10*time.Second) // it has written down all of that
		next := h[1].docker.Containers()[0].Addrs[0].Addr().Next().String()
		link := [2]int{h[1].n, w.ledger.leader.n}
		h[1].trap = func() {
			w.cut[link] = true // the first message is lost
			w.after(w.between(10*time.Millisecond, 100*time.Millisecond), func() {
				delete(w.cut, link)
				h[1].act(action{name: "run --ip", do: func(m *machine) func(context.Context) error { return m.runs("web", next) }})
			})
		}
		h[2].act(action{name: "run --ip", do: func(m *machine) func(context.Context) error { return m.runs("web", next) }})
		w.run(w.now() + 6*time.Second)
		if h[1].trap != nil {
			w.wrong("nobody was asked for %s", next)
		}
	}},
	{"a container takes a minute from its address to its endpoint", 3, func(w *world, h []*machine) {
		w.up(h...)
		h[0].pause = 75 * time.Second
		h[0].act(action{name: "run", do: func(m *machine) func(context.Context) error { return m.runs("web", "") }})
		w.run(w.now() + w.between(62*time.Second, 72*time.Second)) // all has been swept once
		first := w.heldBy(h[0])[0]
		w.refused(h[1], h[1].runs("web", first), "try again")
		h[0].pause = 0
		for range 3 {
			w.must(h[0], "run", h[0].runs("web", ""))
		}
	}},
	{"a container comes for its address when that is taken back", 3, func(w *world, h []*machine) {
		w.up(h...)
		h[0].pause = 4 * time.Minute
		h[0].act(action{name: "run", do: func(m *machine) func(context.Context) error { return m.runs("web", "") }})
		w.run(w.now() + w.between(160*time.Second, 200*time.Second))
		first := netip.MustParseAddr(w.heldBy(h[0])[0])
		w.must(h[1], "run --ip", h[1].runs("web", first.String()))
		w.run(w.now() + 2*time.Minute)
		h[0].pause = 0
		if got := w.held[first.String()].m; got != h[1] {
			w.wrong("%s is held on %v", first, got)
		}
	}},
	{"what a block on its way brings is ceded meanwhile", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[1], "run", h[1].runs("web", ""))
		w.must(h[1], "run --ip", h[1].runs("web", "10.40.0.5")) // a claim in the block that comes next
		w.must(h[1], "stop", func(ctx context.Context) error { return h[1].docker.Remove(ctx, h[1].docker.Containers()[1].Name) })
		w.must(h[1], "run", h[1].runs("web", ""))
		link := [2]int{w.ledger.leader.n, h[1].n}
		w.cut[link] = true // no answer arrives
		h[1].act(action{name: "run", do: func(m *machine) func(context.Context) error { return m.runs("web", "") }})
		w.run(w.now() + w.between(20*time.Millisecond, 100*time.Millisecond))
		h[2].act(action{name: "run --ip", do: func(m *machine) func(context.Context) error { return m.runs("web", "10.40.0.5") }})
		w.run(w.now() + w.between(50*time.Millisecond, 300*time.Millisecond))
		delete(w.cut, link)
		w.run(w.now() + 6*time.Second)
		for range 3 {
			w.must(h[1], "run", h[1].runs("web", ""))
		}
	}},
	{"one of two addresses that were ceded comes home", 3, func(w *world, h []*machine) {
		w.up(h...)
		for range 3 {
			w.must(h[1], "run", h[1].runs("web", "")) // the last in a block of four
		}
		for _, a := range []string{"10.40.0.5", "10.40.0.6"} {
			w.must(h[2], "run --ip", h[2].runs("web", a))
		}
		w.must(h[2], "stop", func(ctx context.Context) error { return h[2].docker.Remove(ctx, h[2].docker.Containers()[0].Name) })
		w.run(w.now() + 14*time.Minute)
		for range 3 {
			w.must(h[1], "run", h[1].runs("web", ""))
		}
		if got := w.held["10.40.0.5"].m; got != h[1] {
			w.wrong("10.40.0.5 is held on %v", got)
		}
	}},
	{"a removed host returns and does not reach the one that has its address", 4, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[3], "run --ip", h[3].runs("web", "10.40.0.9"))
		w.run(w.now() + 5*time.Second)
		h[3].powerOff()
		w.must(h[0], "host rm", h[0].removes(h[3], true))
		w.must(h[1], "run --ip", h[1].runs("web", "10.40.0.9"))
		w.cutBoth(h[1], h[3])
		w.lasting = true
		h[3].powerOn() // its containers start
		w.run(w.now() + 20*time.Second)
	}},
	{"a host that starts again asks another cluster's ledger", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		w.style.foreign = 100
		w.crashAgent(h[2])
		w.run(w.now() + 5*time.Second)
		w.style.foreign = 0
		w.run(w.now() + 20*time.Second)
	}},
}
