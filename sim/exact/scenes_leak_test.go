package exact_test

import (
	"context"
	"strings"
	"time"

	"github.com/weftnet/weft/plugin/plugintest"
)

// ofLeaks are scenes in which a host has something and does not know of it. The end of every
// scene checks that it goes back.
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

// crashAtWrite ends the agent after its nth write of some kind, before the agent sends
// anything further.
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
