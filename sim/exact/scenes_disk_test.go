package exact_test

import (
	"net/netip"
	"slices"
	"time"
)

// ofRights are scenes about what a host must not assume: that its disk is the newest, that
// its lease is younger than it is.
var ofRights = []scene{
	{"22: an old disk is booted and no keeper is there", 3, func(w *world, h []*machine) {
		w.up(h...)
		old := w.givenAway(h[2], h[1])
		h[2].setBack(old)
		w.isolate(h[2])
		w.lasting = true
		h[2].powerOn()
		w.run(w.now() + 3*time.Second)
		for range 3 {
			w.refused(h[2], h[2].runs("web", ""), "was started since", "weft status")
		}
	}},
	{"22: an old disk of the newest start is booted", 3, func(w *world, h []*machine) {
		w.up(h...)
		old := w.givenAway(h[2], h[1])
		h[2].setBack(old)
		h[2].busy++ // the operators sleep
		h[2].powerOn()
		w.run(w.now() + 5*time.Second)
		for range 3 {
			w.refused(h[2], h[2].runs("web", ""), "older copy", "new-identity")
		}
		w.pass(2 * time.Hour) // it is renewed all the same
		w.run(w.now() + time.Minute)
		w.refused(h[2], h[2].runs("web", ""), "older copy", "new-identity")
		h[2].busy--
	}},
	{"22: an old disk is put in without a boot", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		w.isolate(h[2])
		w.lasting = true
		old := h[2].disk.copy()
		w.crashAgent(h[2])
		w.run(w.now() + 3*time.Second)
		w.must(h[2], "run", h[2].runs("web", "")) // nobody hears of that start
		h[2].crash()
		h[2].disk.image, h[2].shady, h[2].keeps, h[2].fresh = old, true, false, true
		h[2].busy++
		w.lasting = false
		w.mend()
		h[2].start()
		w.run(w.now() + 5*time.Second)
		w.refused(h[2], h[2].runs("web", ""), "older copy", "new-identity")
		h[2].busy--
	}},
	{"21: a copy that is refused has started more often than the host", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		c := w.newMachine()
		c.disk.image, c.shady, c.twin, c.of = h[2].disk.copy(), true, true, h[2]
		w.crashAgent(h[2])
		w.run(w.now() + 5*time.Second)
		for range 3 {
			c.start()
			w.run(w.now() + 5*time.Second)
			c.crash()
		}
		c.buried = true
		w.must(h[2], "run", h[2].runs("web", ""))
		w.eventually("the others believe the host", 3*time.Minute, w.mistaken)
		if w.met["outgrew a start that was never admitted"] == 0 {
			w.wrong("nobody believed the copy")
		}
	}},
	{"31: the answer to a renewal comes after hours of sleep", 3, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[2], "run", h[2].runs("web", ""))
		w.pass(61 * time.Minute)
		at := w.ledger.renewed[h[2].identity()]
		w.stop = func() bool { return w.ledger.renewed[h[2].identity()] != at }
		w.run(w.now() + time.Minute)
		w.stop = nil
		w.leapt += 6 * time.Hour
		w.run(w.now() + 3*time.Second)
		w.isolate(h[2])
		w.lasting = true
		w.sit(19)
		w.refused(h[2], h[2].runs("web", ""), "lease ran out")
	}},
	{"31: a wall clock was ahead at the renewal and is right after a boot", 4, func(w *world, h []*machine) {
		w.up(h...)
		w.must(h[3], "run", h[3].runs("web", ""))
		h[3].wall += w.between(14*time.Hour, 30*time.Hour)
		w.crashAgent(h[3]) // the next agent has not seen the clock before
		w.run(w.now() + 5*time.Second)
		w.isolate(h[3])
		w.lasting = true
		w.run(w.now() + 5*time.Second)
		h[3].powerOff()
		w.sit(26)
		w.must(h[0], "host rm", h[0].removes(h[3], false))
		h[3].powerOn()
		w.run(w.now() + 10*time.Second)
	}},
}

// sit lets hours pass in which no clock stands still.
func (w *world) sit(hours int) {
	for range hours {
		w.leapt += time.Hour
		w.run(w.now() + 31*time.Second)
	}
}

// givenAway has a host give up an address to another, and answers a copy of its disk of
// before that. The address is the one that it would have handed out next.
func (w *world) givenAway(from, to *machine) (old image) {
	w.must(from, "run", from.runs("web", ""))
	old = from.disk.copy()
	c := from.docker.Containers()
	for a := c[len(c)-1].Addrs[0].Addr().Next(); ; a = a.Next() {
		if w.ledger.truth.View().Owner(a) == from.identity() {
			w.must(to, "run --ip", to.runs("web", a.String()))
			return old
		}
		if !a.Less(netip.MustParseAddr("10.40.0.31")) {
			w.wrong("%s has nothing to give away", from)
			return old
		}
	}
}

// scenes are all.
var scenes = slices.Concat(stories, ofRights, ofHands, ofLeaks)
