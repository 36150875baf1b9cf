package exact_test

import (
	"context"
	"fmt"
	"time"

	"github.com/weftnet/weft/netmap"
)

var stories = []scene{
	{"2: three seeds found at once", 3, func(w *world, h []*machine) {
		w.expect = 3
		w.up(h...)
		if len(w.ledger.plan.Keepers) != 3 {
			w.wrong("%d keepers founded, want 3", len(w.ledger.plan.Keepers))
		}
	}},
	{"3: five seeds, two of them dead", 5, func(w *world, h []*machine) {
		w.expect = 3
		w.up(h[:3]...)
		w.up(h[3:]...)
	}},
	{"4: seeds parted one from two, then healed", 3, func(w *world, h []*machine) {
		w.expect = 2
		w.isolate(h[0])
		w.lasting = true
		h[0].start()
		w.up(h[1:]...)
		w.run(w.now() + 20*time.Second)
		w.lasting = false
		w.mend()
	}},
	{"6: a seed loses its disk while the cluster is founded", 3, func(w *world, h []*machine) {
		w.expect = 3
		h[0].trap = func() {
			w.after(w.between(0, 30*time.Millisecond), func() {
				h[0].powerOff()
				h[0].wipe()
				w.after(time.Second, h[0].powerOn)
			})
		}
		for _, m := range h {
			m.start()
		}
		w.run(w.now() + 60*time.Second)
	}},
	{"12: who cedes crashes around its write and its word", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[0], "run", h[0].runs("web", ""))
		for _, a := range []string{"10.40.0.5", "10.40.0.6", "10.40.0.7", "10.40.0.4"} {
			h[1].act(action{name: "run --ip", do: func(m *machine) func(context.Context) error { return m.runs("web", a) }})
			w.run(w.now() + w.between(0, 12*time.Millisecond))
			w.crashAgent(h[0])
			w.run(w.now() + 6*time.Second)
			w.finish(h[0], "run", h[0].runs("web", ""))
		}
	}},
	{"14: who is ceded to crashes before and after it writes", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[0], "run", h[0].runs("web", ""))
		for _, a := range []string{"10.40.0.5", "10.40.0.6", "10.40.0.7", "10.40.0.4"} {
			h[1].act(action{name: "run --ip", do: func(m *machine) func(context.Context) error { return m.runs("web", a) }})
			w.run(w.now() + w.between(0, 12*time.Millisecond))
			w.crashAgent(h[1])
			w.finish(h[0], "run", h[0].runs("web", ""))
			w.run(w.now() + 6*time.Second)
		}
	}},
	{"17: the agent starts again within its lease, alone", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		w.isolate(h[2])
		w.lasting = true
		w.crashAgent(h[2])
		w.run(w.now() + 3*time.Second)
		w.must(h[2], "run", h[2].runs("web", ""))
	}},
	{"18: a host boots and no keeper is there", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		h[0].powerOff()
		h[1].powerOff()
		h[2].powerOff()
		h[2].powerOn()
		w.run(w.now() + 5*time.Second)
		if w.chance(50) {
			w.pass(11 * time.Hour)
			w.run(w.now() + 31*time.Second)
			w.refused(h[2], h[2].runs("web", ""), "wall clock", "weft status")
		}
	}},
	{"23: a minority hands out until its lease ends", 5, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[4], "run", h[4].runs("web", ""))
		w.isolate(h[4])
		w.lasting = true
		w.pass(23 * time.Hour)
		w.must(h[4], "run", h[4].runs("web", ""))
		w.pass(2 * time.Hour)
		w.refused(h[4], h[4].runs("web", ""), "lease ran out")
		w.lasting = false
		w.mend()
		w.run(w.now() + 5*time.Second)
		w.must(h[4], "run", h[4].runs("web", ""))
	}},
	{"25: two operators on two sides remove one host", 5, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[4], "run", h[4].runs("web", ""))
		w.run(w.now() + 5*time.Second)
		id := h[4].identity()
		h[4].powerOff()
		w.cutBoth(h[0], h[1])
		w.beside(h[0], h[1], h[0].removes(h[4], true), h[1].removes(h[4], true))
		w.run(w.now() + 8*time.Second)
		if w.ledger.removed[id].index == 0 { // all three are keepers: nobody reached a majority
			w.mend()
			w.beside(h[0], h[1], h[0].removes(h[4], true), h[1].removes(h[4], true))
			w.run(w.now() + 8*time.Second)
		}
		if w.ledger.removed[id].index == 0 {
			w.wrong("(5) nobody removed it")
		}
	}},
	{"26: the removal of a parted host waits for its lease", 4, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[3], "run", h[3].runs("web", ""))
		w.run(w.now() + 5*time.Second)
		w.isolate(h[3])
		w.lasting = true
		for range 3 { // hours
			w.refused(h[0], h[0].removes(h[3], false), "may hand out addresses for another")
			w.leapt += time.Hour
			w.run(w.now() + 35*time.Second)
		}
		for range 27 { // no keeper's clock stood still
			w.leapt += time.Hour
			w.run(w.now() + 35*time.Second)
		}
		w.must(h[0], "host rm", h[0].removes(h[3], false))
		w.refused(h[3], h[3].runs("web", ""), "lease ran out")
	}},
	{"27: a host returns in the moment in which its addresses go to another", 4, func(w *world, h []*machine) {
		w.up(h...)
		for range 6 {
			w.must(h[3], "run", h[3].runs("web", ""))
		}
		w.run(w.now() + 5*time.Second)
		h[3].powerOff()
		w.must(h[0], "host rm", h[0].removes(h[3], true))
		h[3].powerOn()
		for i := range 8 {
			w.beside(h[i%3], h[3], h[i%3].runs("web", ""), h[3].runs("web", ""))
			w.run(w.now() + w.between(0, 800*time.Millisecond))
		}
	}},
	{"31: all machines sleep for longer than the lease", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[1], "run", h[1].runs("web", ""))
		for range 3 {
			w.beside(h[1], h[2], h[1].runs("web", ""), h[2].runs("dual", ""))
			w.run(w.now() + w.between(0, 3*time.Millisecond))
			w.pass(w.between(24*time.Hour, 60*time.Hour))
			w.run(w.now() + 5*time.Second)
		}
	}},
	{"36: a small subnet is used up to its last address", 3, func(w *world, h []*machine) {
		w.up(h...)
		for i := range 29 {
			w.must(h[i%3], "run", h[i%3].runs("web", ""))
			w.run(w.now() + 100*time.Millisecond)
		}
		w.refused(h[0], h[0].runs("web", ""), "10.40.0.0/27", "free")
		last := h[1].docker.Containers()[0]
		w.must(h[1], "stop", func(ctx context.Context) error { return h[1].docker.Remove(ctx, last.Name) })
		w.run(w.now() + 6*time.Second)
		w.must(h[0], "run", h[0].runs("web", ""))
	}},
	{"37: an address that was asked for is held elsewhere", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[0], "run --ip", h[0].runs("web", "10.40.0.9"))
		w.run(w.now() + 3*time.Second)
		w.refused(h[1], h[1].runs("web", "10.40.0.9"), "10.40.0.9", "host-1")
		h[0].powerOff()
		w.refused(h[1], h[1].runs("web", "10.40.0.9"), "10.40.0.9", "host-1")
	}},
	{"44: a host comes and goes every twenty seconds", 4, func(w *world, h []*machine) {
		w.up(h...)
		for i := range 9 {
			w.isolate(h[3])
			w.beside(h[i%3], h[3], h[i%3].runs("web", ""), h[3].runs("web", fmt.Sprintf("10.40.0.%d", 3+2*i)))
			w.run(w.now() + 10*time.Second)
			w.mend()
			w.run(w.now() + 10*time.Second)
		}
		if w.ledger.removed[h[3].identity()].index > 0 || h[3].identity() == (netmap.HostID{}) {
			w.wrong("(4) it was removed")
		}
	}},
	{"a host leaves and does not hear that it has", 5, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[4], "run", h[4].runs("web", ""))
		id := h[4].identity()
		w.oneWay(h[4], false)
		w.lasting = true
		h[4].busy++ // the operators wait
		w.refused(h[4], h[4].leaves(true), "may still be decided")
		if w.chance(50) {
			w.crashAgent(h[4])
			w.run(w.now() + 3*time.Second)
		}
		w.refused(h[4], h[4].runs("web", ""), "leaving the cluster")
		h[4].busy--
		w.lasting = false
		w.mend()
		w.run(w.now() + 30*time.Second)
		if !w.ledger.removed[id].left {
			w.wrong("(5) the order to leave was lost")
		}
	}},
	{"a host that was booted sleeps while it waits for a renewal", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		w.isolate(h[2])
		w.lasting = true
		h[2].powerOff()
		h[2].powerOn()
		w.run(w.now() + 3*time.Second)
		h[2].act(action{name: "run", do: func(m *machine) func(context.Context) error { return m.runs("web", "") }})
		w.run(w.now() + w.between(0, 1900*time.Millisecond))
		w.leapt += 30 * time.Hour
	}},
	{"a host that may not ask the ledger has a network that Docker dropped", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		old := h[2].disk.copy()
		w.crashAgent(h[2])
		w.run(w.now() + 5*time.Second)
		h[2].powerOff()
		h[2].empty()
		h[2].disk.image, h[2].shady, h[2].keeps, h[2].fresh = old, true, false, true
		h[2].busy++ // nobody looks after it
		h[2].powerOn()
		w.run(w.now() + 3*time.Minute)
		before := w.ledger.state.Applied()
		w.run(w.now() + time.Minute)
		if n := w.ledger.state.Applied() - before; n > 30 {
			w.wrong("(10) %d questions to the ledger in a minute", n)
		}
		h[2].busy--
	}},
}
