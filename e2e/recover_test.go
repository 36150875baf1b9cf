package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationRecoverAndLeave: two of three keepers lose machine and disk. The third one says what
// its operator has to do, and refuses it while it would be too early. Its containers run on. The two
// machines join again with empty disks, and one of them leaves with `weft host leave`.
func TestIntegrationRecoverAndLeave(t *testing.T) {
	s := onSpares(t)
	a, b, c := s.trio()
	lost := []*lab.Host{b, c}
	name := s.network(a, "overlay", "--subnet", "10.72.64.0/24")
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	near := s.run(a, name, "near")
	stream := s.stream(a, name, "stream", near)

	// A recovery is refused while all keepers answer, while one is off, and while a majority is off but
	// the operator has not confirmed that.
	s.weftRefuses(a, []string{"there is nothing to recover"}, "ledger", "recover")
	must(t, b.PowerOff(t.Context()))
	t.Cleanup(func() { _ = s.switchOn(context.WithoutCancel(t.Context()), lost) })
	s.weftRefuses(a, []string{"there is nothing to recover"}, "ledger", "recover", "--is-off", b.Name())
	must(t, c.PowerOff(t.Context()))
	s.seesUnreachable(a, b.Name())
	s.seesUnreachable(a, c.Name())
	s.refused(a, []string{b.Name(), c.Name(), "weft ledger recover"}, s.create(a, "early", "--subnet", "10.72.65.0/24")...)
	s.weftRefuses(a, []string{b.Name(), c.Name(), "--is-off"}, "ledger", "recover")
	s.weftRefuses(a, []string{c.Name(), "--is-off"}, "ledger", "recover", "--is-off", b.Name())
	own := s.run(a, name, "own") // from the survivor's own block

	s.runbook("Recover the ledger", a, b, c).rest()
	s.docker(a, s.create(a, "decided", "--subnet", "10.72.65.0/24")...)
	s.run(a, s.name("decided"), "new")
	s.matrix(near, own)

	// The machines return with empty disks.
	must(t, each(lost, func(h *lab.Host) error {
		return errors.Join(os.RemoveAll(h.Disk()), os.MkdirAll(h.Disk(), 0o755))
	}))
	must(t, s.switchOn(t.Context(), lost))
	must(t, each(lost, func(h *lab.Host) error {
		return h.InstallPlugin(t.Context(), s.plugin, "WEFT_JOIN="+addrs(s.hosts))
	}))
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, a, b, c) })
	s.everywhere(name)
	s.everywhere(s.name("decided"))
	now := []box{near, own, s.run(b, name, "again-b"), s.run(c, name, "again-c")}
	s.unique(append(now, boxes[0])...)
	for _, from := range now {
		s.reach(from, boxes[0].addr, near.addr, own.addr, now[2].addr, now[3].addr)
	}
	stream.unbroken("a stream on the host that survived")

	s.leaveInOrder(c, now[3], a, b)
	s.unique(now[0], now[1], now[2], s.run(b, name, "late"))
}

// leaveInOrder removes the last container of a host, lets the host leave, and joins it again as a new
// one.
func (s *scene) leaveInOrder(h *lab.Host, last box, rest ...*lab.Host) {
	s.t.Helper()
	s.weftRefuses(h, []string{last.name, last.addr.String(), "stop them"}, "host", "leave")
	s.docker(h, "rm", "-f", last.name)
	s.weftDoes(h, []string{h.Name(), "has left"}, "host", "leave")
	s.refused(h, []string{h.Name(), "has left", "weft host new-identity"}, s.create(h, "stray", "--subnet", "10.72.66.0/24")...)
	eventually(s.t, 2*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, rest...) })

	s.weftDoes(h, []string{"new"}, "host", "new-identity")
	eventually(s.t, 3*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, append(rest, h)...) })
}

// keepTogether returns nil if exactly these hosts are alive in one cluster and several of them keep
// the ledger.
func (s *scene) keepTogether(ctx context.Context, hosts ...*lab.Host) error {
	return each(hosts, func(h *lab.Host) error {
		report, err := s.report(ctx, h)
		if err != nil {
			return err
		}
		var alive []string
		for _, k := range report.Hosts {
			if k.State == "alive" {
				alive = append(alive, k.Name)
			}
		}
		keepers, want := len(report.Ledger.Keepers), (len(hosts)-1)|1
		if report.Ledger.Role == "none" { // it knows them as they were when it was answered last
			keepers = want
		}
		if report.State != "ready" || len(alive) != len(hosts) || keepers != want {
			return fmt.Errorf("%s is %s, sees %q alive and %d keepers; problems %q", h.Name(), report.State, alive, keepers, report.Problems)
		}
		return nil
	})
}

// switchOn switches on those of the hosts that are off.
func (s *scene) switchOn(ctx context.Context, hosts []*lab.Host) error {
	return each(hosts, func(h *lab.Host) error { return h.PowerOn(ctx) })
}

// weftDoes gives an agent an order, which must be carried out and answered in these words.
func (s *scene) weftDoes(h *lab.Host, words []string, args ...string) {
	s.t.Helper()
	must(s.t, s.tells(h, words, args...)(s.t.Context()))
}

// weftRefuses gives an agent an order that it must refuse, in these words.
func (s *scene) weftRefuses(h *lab.Host, words []string, args ...string) {
	s.t.Helper()
	out, err := h.Exec(s.t.Context(), append([]string{s.weft}, args...)...)
	if err == nil {
		s.t.Fatalf("%s: weft %q was carried out: %s", h.Name(), args, out)
	}
	_, said, _ := strings.Cut(err.Error(), "exit status")
	s.says(said, words)
}

func (s *scene) says(said string, words []string) {
	s.t.Helper()
	s.t.Logf("weft says: %s", said)
	for _, word := range words {
		if !strings.Contains(said, word) {
			s.t.Errorf("%q\nsays no %q", said, word)
		}
	}
}
