package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// The tests of this file are four cases in which the last release of Weave Net gives an
// address twice or lets a request hang: two peers that were founded apart meet (T1), the
// owner of all addresses dies (T2), two operators remove it at the same moment (T3), and it
// returns (T4).

// TestIntegrationWeaveTwoFoundersMeet is T1. Weave's peers both have given out the first
// address by then, and refuse each other for ever without a way out.
func TestIntegrationWeaveTwoFoundersMeet(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	pair := []*lab.Host{a, b}
	must(t, each(pair, func(h *lab.Host) error { return h.InstallPlugin(t.Context(), s.plugin) }))
	name := s.name("ours")
	var boxes []box
	var ids []string
	for _, h := range pair {
		s.docker(h, s.create(h, "ours", "--subnet", "10.72.0.0/24")...)
		boxes = append(boxes, s.run(h, name, "box"+h.Name()))
		report, err := s.report(t.Context(), h)
		must(t, err)
		ids = append(ids, report.Cluster.String())
	}
	t.Logf("apart they have given out %s and %s", boxes[0].addr, boxes[1].addr)

	s.docker(b, "plugin", "disable", "-f", lab.PluginName)
	s.docker(b, "plugin", "set", lab.PluginName, "WEFT_JOIN="+a.Addr4().String())
	s.docker(b, "plugin", "enable", lab.PluginName)
	eventually(t, spreadWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, b)
		if err != nil {
			return err
		}
		said := strings.Join(report.Problems, "\n")
		for _, word := range append(ids, "weft cleanup") {
			if !strings.Contains(said, word) {
				return fmt.Errorf("no %q in %q", word, said)
			}
		}
		return nil
	})
	// Each still works in its own cluster.
	for _, h := range pair {
		s.matrix(boxes[h.Number()-a.Number()], s.run(h, name, "late"+h.Name()))
	}
	must(t, s.ready(t.Context(), 1, a))

	// The remedy that they name.
	must(t, s.wipe(t.Context(), b))
	must(t, b.InstallPlugin(t.Context(), s.plugin, "WEFT_JOIN="+a.Addr4().String()))
	s.hosts = pair
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
	s.everywhere(name)
	again := s.run(b, name, "again")
	if again.addr == boxes[0].addr {
		t.Errorf("%s was given out twice", again.addr)
	}
	s.matrix(boxes[0], again)
}

// owned is a cluster of three in which one host owns every address of a network.
type owned struct {
	*scene
	a, b, c *lab.Host
	network string
	subnet  string
	old     []box // what the owner runs
}

func (s *scene) owned(args ...string) owned {
	s.t.Helper()
	o := owned{scene: s, subnet: "10.72.1.0/28"}
	o.a, o.b, o.c = s.trio()
	o.network = s.network(o.c, "owned", "--subnet", o.subnet, "-o", "weft.block=/28")
	o.old = append(o.old, s.run(o.c, o.network, "old0", args...))
	for _, last := range []string{"13", "14"} {
		o.old = append(o.old, s.run(o.c, o.network, "old"+last, append([]string{"--ip", "10.72.1." + last}, args...)...))
	}
	s.reach(o.old[0], o.old[1].addr, o.old[2].addr)
	return o
}

// dead is T2: an owner that does not answer. Weave's survivor hangs; here it says within
// five seconds whom to remove.
func (o owned) dead() {
	o.t.Helper()
	o.seesUnreachable(o.a, o.c.Name())
	o.seesUnreachable(o.b, o.c.Name())
	o.refused(o.a, []string{o.subnet, o.c.Name()}, o.command(o.a, o.network, "early")...)
	o.docker(o.a, "rm", "-f", o.name("early"))
}

// removed is T3: two operators remove the dead owner at the same moment. Weave's two
// survivors then both own everything and give out the first address both.
func (o owned) removed() {
	o.t.Helper()
	pair := []*lab.Host{o.a, o.b}
	must(o.t, each(pair, func(h *lab.Host) error {
		out, err := h.Exec(o.t.Context(), o.weft, "host", "rm", o.c.Name(), "--is-off")
		if err == nil && !strings.Contains(out, "is removed") {
			err = fmt.Errorf("weft host rm on %s said %q", h.Name(), out)
		}
		return err
	}))
	o.hosts = pair
	eventually(o.t, healWithin, func(ctx context.Context) error {
		return each(pair, func(h *lab.Host) error {
			report, err := o.report(ctx, h)
			if err == nil && !slices.ContainsFunc(report.Hosts, func(k api.Host) bool { return k.Name == o.c.Name() && k.State == "removed" }) {
				err = fmt.Errorf("%s does not know that %s was removed", h.Name(), o.c.Name())
			}
			return err
		})
	})
}

// heirs starts containers on both survivors at once, one of them with the address that
// the dead owner's first container had.
func (o owned) heirs() []box {
	o.t.Helper()
	heir := o.run(o.a, o.network, "heir", "--ip", o.old[0].addr.String())
	out := [][]box{{heir}, nil}
	must(o.t, each([]*lab.Host{o.a, o.b}, func(h *lab.Host) error {
		for i := range 2 {
			name := fmt.Sprintf("new%d-%s", i, h.Name())
			if _, err := h.Docker(o.t.Context(), o.command(h, o.network, name)...); err != nil {
				return err
			}
			addr, err := addrOf(o.t.Context(), h, o.name(name), o.network)
			if err != nil {
				return err
			}
			n := h.Number() - o.a.Number()
			out[n] = append(out[n], box{h, o.name(name), addr})
		}
		return nil
	}))
	all := slices.Concat(out...)
	o.unique(all...)
	return all
}

// unique checks that no two containers have one address.
func (s *scene) unique(boxes ...box) {
	s.t.Helper()
	who := map[netip.Addr]string{}
	for _, b := range boxes {
		if other, taken := who[b.addr]; taken {
			s.t.Errorf("%s was given to %s and to %s on %s", b.addr, other, b.name, b.host.Name())
		}
		who[b.addr] = b.name
	}
}

// TestIntegrationWeaveRemovedOwnerReturns is T2, T3 and T4 with an owner that was only cut
// off: its containers run on, though somebody said that the machine was off.
func TestIntegrationWeaveRemovedOwnerReturns(t *testing.T) {
	s := onSpares(t)
	o := s.owned()
	all := slices.Clone(s.hosts)
	before, err := s.report(t.Context(), o.c)
	must(t, err)
	off := lab.Off(o.c.Number())
	t.Cleanup(func() { _ = s.lab.Heal(context.WithoutCancel(t.Context()), off) })
	must(t, s.lab.Cut(t.Context(), off))
	o.dead()
	o.removed()
	heirs := o.heirs()
	must(t, s.lab.Heal(t.Context(), off))

	// It becomes a new host and keeps the addresses that no other host got meanwhile.
	began := time.Now()
	s.hosts = all
	eventually(t, time.Minute, func(ctx context.Context) error {
		report, err := s.report(ctx, o.c)
		switch {
		case err != nil:
			return err
		case report.Self == before.Self || report.Cluster != before.Cluster || report.State != "ready":
			return fmt.Errorf("%s is still %s, %s: %q", o.c.Name(), report.Self.Short(), report.State, report.Problems)
		}
		said := strings.Join(report.Problems, "\n")
		for _, word := range []string{o.old[0].name, o.old[0].addr.String(), o.a.Name()} {
			if !strings.Contains(said, word) {
				return fmt.Errorf("its problems do not name %s: %s", word, said)
			}
		}
		return nil
	})
	kept := slices.DeleteFunc(slices.Clone(o.old), func(b box) bool {
		return slices.ContainsFunc(heirs, func(h box) bool { return h.addr == b.addr })
	})
	s.onTheMesh(o.network, append(slices.Clone(heirs), kept...)...)
	t.Logf("%.1f s after the cut was healed it has another identity and %d of %d containers on the mesh", time.Since(began).Seconds(), len(kept), len(o.old))
	s.page(heirs[len(heirs)-1], o.old[0].addr, "heir")

	// Its operator does what it says.
	lost := o.old[0]
	s.docker(o.c, "restart", "-t", "0", lost.name)
	lost.addr = s.addr(o.c, lost.name, o.network)
	late := s.run(o.c, o.network, "late")
	now := append(append(slices.Clone(heirs), kept...), lost, late)
	s.unique(now...)
	s.onTheMesh(o.network, now...)
}

// TestIntegrationWeaveRemovedOwnerIsSwitchedOn is the same with an owner that was off:
// its Docker starts its containers again before its agent has heard of anything.
func TestIntegrationWeaveRemovedOwnerIsSwitchedOn(t *testing.T) {
	long(t)
	s := onSpares(t)
	o := s.owned("--restart", "always")
	all := slices.Clone(s.hosts)
	must(t, o.c.PowerOff(t.Context()))
	t.Cleanup(func() { _ = o.c.PowerOn(context.WithoutCancel(t.Context())) })
	o.dead()
	o.removed()
	heirs := o.heirs()
	must(t, o.c.PowerOn(t.Context()))
	s.hosts = all
	eventually(t, time.Minute, func(ctx context.Context) error {
		report, err := s.report(ctx, o.c)
		if err == nil && report.State != "ready" {
			err = errors.New(report.State)
		}
		return err
	})
	now := slices.Clone(heirs)
	for _, b := range o.old {
		// The operator starts the containers that Docker could not start because their addresses
		// were not available at that moment.
		eventually(t, time.Minute, func(ctx context.Context) error {
			if _, err := o.c.Docker(ctx, "start", b.name); err != nil {
				return err
			}
			addr, err := addrOf(ctx, o.c, b.name, o.network)
			b.addr = addr
			return err
		})
		now = append(now, b)
	}
	s.unique(now...)
	s.onTheMesh(o.network, now...)
}

// onTheMesh waits until every member knows exactly these containers of a network, and
// all reach each other.
func (s *scene) onTheMesh(network string, boxes ...box) {
	s.t.Helper()
	want := map[string]bool{}
	for _, b := range boxes {
		want[fmt.Sprintf("%s: %s on %s", b.addr, b.name, b.host.Name())] = true
	}
	eventually(s.t, time.Minute, func(ctx context.Context) error {
		return each(s.members(), func(h *lab.Host) error {
			report, err := s.report(ctx, h)
			if err != nil {
				return err
			}
			said := told4(report, network)
			for _, e := range said {
				if line := fmt.Sprintf("%s: %s on %s", e.addr, e.name, e.host); !want[line] {
					return fmt.Errorf("the agent of %s knows %s, want only %v", h.Name(), line, want)
				}
			}
			if len(said) != len(want) {
				return fmt.Errorf("the agent of %s knows %v, want %v", h.Name(), said, want)
			}
			return nil
		})
	})
	var addrs []netip.Addr
	for _, b := range boxes {
		addrs = append(addrs, b.addr)
	}
	for _, h := range s.members() { // one container of each host reaches all
		i := slices.IndexFunc(boxes, func(b box) bool { return b.host.Number() == h.Number() })
		s.reach(boxes[i], addrs...)
	}
}
