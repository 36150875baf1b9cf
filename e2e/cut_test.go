package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// cutFor is longer than memberlist remembers its dead, 30 s (DESIGN §9.8).
const cutFor = 41 * time.Second

// TestIntegrationCutOff cuts the ledger's leader off for longer than memberlist
// remembers its dead. Meanwhile both sides go on as far as they can; after
// the cut everything converges, and nothing was torn down.
func TestIntegrationCutOff(t *testing.T) {
	s := onMembersAlone(t)
	gone, rest := s.leader()
	name := s.network(gone, "overlay", "--subnet", "10.70.0.0/24")
	boxes := s.runOnAll(name, "box", "--restart", "always")
	s.matrix(boxes...)
	boxOf := func(h *lab.Host) *box { return &boxes[h.Number()-1] }
	off := lab.Off(gone.Number())
	t.Cleanup(func() { _ = s.lab.Heal(context.WithoutCancel(t.Context()), off) })

	must(t, s.lab.Cut(t.Context(), off))
	over := time.NewTimer(cutFor)
	m := s.stream(rest[0], name, "stream", *boxOf(rest[1]))

	// The host that is cut off has no majority: it makes no networks, but it starts containers with
	// addresses of its own blocks, also after a restart with no peer reachable.
	s.refused(gone, []string{rest[0].Name(), rest[1].Name()}, s.create(gone, "minority", "--subnet", "10.70.1.0/24")...)
	must(t, gone.RestartDocker(t.Context()))
	s.back(gone, boxOf(gone).name)
	boxOf(gone).addr = s.addr(gone, boxOf(gone).name, name)
	alone := s.run(gone, name, "alone")
	s.matrix(*boxOf(gone), alone)

	// The others have one.
	s.seesUnreachable(rest[0], gone.Name())
	s.docker(rest[0], s.create(rest[0], "majority", "--subnet", "10.70.2.0/24")...)
	late := s.run(rest[1], name, "late")
	s.matrix(*boxOf(rest[0]), *boxOf(rest[1]), late)

	select {
	case <-over.C:
	case <-t.Context().Done():
		t.Fatal("the tests' time is over")
	}
	must(t, s.lab.Heal(t.Context(), off))
	s.matrix(append(boxes, alone, late)...)
	eventually(t, healWithin, s.allMembers)
	m.unbroken("a stream between the hosts that were not cut off")
	s.everywhere(s.name("majority"))
	s.agree(name, len(boxes)+2) // alone and late
	s.matrix(s.runOnAll(s.name("majority"), "new")...)
}

// TestIntegrationOneWayCut: packets of one direction are dropped for some seconds. Afterwards every
// container reaches every other, and the hosts have the same facts.
func TestIntegrationOneWayCut(t *testing.T) {
	s := onMembersAlone(t)
	name := s.network(s.lab.Host(1), "overlay")
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	cuts := []lab.Cut{lab.OneWay(1, 2), lab.OneWay(3, 1)}
	t.Cleanup(func() { _ = s.lab.Heal(context.WithoutCancel(t.Context()), cuts...) })
	must(t, s.lab.Cut(t.Context(), cuts...))
	late := s.run(s.lab.Host(2), name, "late")
	s.reach(boxes[2], late.addr) // 2 and 3 hear each other
	must(t, s.lab.Heal(t.Context(), cuts...))
	s.matrix(append(boxes, late)...)
	eventually(t, 2*healWithin, s.allMembers)
	s.agree(name, len(boxes)+1)
}

// leader is the member that leads the ledger, and the others.
func (s *scene) leader() (*lab.Host, []*lab.Host) {
	s.t.Helper()
	var leader string
	eventually(s.t, healWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, s.members()[0])
		if err != nil {
			return err
		}
		if leader = report.HostName(report.Ledger.Leader); report.Ledger.Leader.IsZero() || len(report.Ledger.Keepers) != members {
			return fmt.Errorf("the ledger has leader %s and %d keepers, want %d", leader, len(report.Ledger.Keepers), members)
		}
		return nil
	})
	all := slices.Clone(s.members())
	i := slices.IndexFunc(all, func(h *lab.Host) bool { return h.Name() == leader })
	if i < 0 {
		s.t.Fatalf("the leader %q is no host of the lab", leader)
	}
	h := all[i]
	return h, slices.Delete(all, i, i+1)
}

// seesUnreachable waits until a host's agent notices that another does not answer.
func (s *scene) seesUnreachable(h *lab.Host, other string) {
	s.t.Helper()
	eventually(s.t, 30*time.Second, func(ctx context.Context) error {
		report, err := s.report(ctx, h)
		if err != nil {
			return err
		}
		for _, k := range report.Hosts {
			if k.Name == other && k.State != "unreachable" {
				return fmt.Errorf("%s calls %s %s", h.Name(), other, k.State)
			}
		}
		return nil
	})
}

// agree waits until all members report the same about a network, with this number of endpoints.
func (s *scene) agree(network string, endpoints int) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) error {
		var first string
		for _, h := range s.members() {
			report, err := s.report(ctx, h)
			if err != nil {
				return err
			}
			n, _ := find(report, network)
			said := told(n)
			if first == "" {
				first = said
			}
			if said != first {
				return fmt.Errorf("%s says:\n%s\nhost1 says:\n%s", h.Name(), said, first)
			}
			if len(n.Endpoints) != endpoints {
				return fmt.Errorf("%s knows %d endpoints, want %d: %s", h.Name(), len(n.Endpoints), endpoints, said)
			}
		}
		return nil
	})
}
