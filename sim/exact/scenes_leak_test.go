package exact_test

import (
	"context"
	"strings"
	"time"

	"github.com/weftnet/weft/plugin/plugintest"
)

// ofLeaks are stories of what a host has and does not know of. That it goes back is
// looked at in the end, as after every story.
var ofLeaks = []scene{
	{"a disk is from before a subnet was taken into use", 4, func(w *world, h []*machine) {
		w.up(h...)
		old, docker := h[3].disk.copy(), plugintest.NewEngine("old")
		docker.Adopt(h[3].docker)
		w.must(h[3], "network create", h[3].createsAny())
		w.must(h[3], "run", h[3].runs("any", ""))
		h[3].setBack(old)
		h[3].empty()
		h[3].docker.Adopt(docker) // it is as old
		h[3].powerOn()
	}},
	{"the answer to who asked for any subnet is lost", 4, func(w *world, h []*machine) {
		w.up(h...)
		w.run(w.now() + 2*time.Minute) // what a start tells is told
		n := len(w.ledger.truth.View().Subnets)
		w.oneWay(h[3], false)
		w.lasting = true
		w.refused(h[3], h[3].createsAny(), "majority")
		w.lasting = false
		w.mend()
		if len(w.ledger.truth.View().Subnets) == n {
			w.wrong("no subnet was given")
		}
	}},
	{"the agent ends between a pool and its network, and is away until Docker gave up", 4, func(w *world, h []*machine) {
		w.up(h...)
		h[3].crashAtWrite("ipam subnet/", 3) // of the pool, of its gateway, and that a network is to have it
		w.refused(h[3], h[3].createsAny(), "does not answer")
		w.mend()
		h[3].start()
	}},
}

// crashAtWrite has the agent end after its nth write of some kind. It asks nobody any
// more before that.
func (m *machine) crashAtWrite(kind string, n int) {
	m.trap = func() {
		if last := m.disk.queue[len(m.disk.queue)-1]; strings.HasPrefix(last.what, kind) {
			n--
		}
		if n > 0 {
			m.crashAtWrite(kind, n)
			return
		}
		m.w.oneWay(m, false)
		m.w.after(10*time.Millisecond, m.crash)
	}
}

func (m *machine) createsAny() func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := m.docker.CreateNetwork(ctx, networks[2])
		return err
	}
}
