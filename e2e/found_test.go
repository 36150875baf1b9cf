package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationFoundTogether: hosts get the same settings and start at the same time, as with
// Ansible. One of them starts later, and one loses its disk afterwards.
func TestIntegrationFoundTogether(t *testing.T) {
	s := onSpares(t)
	lent := s.lend(members)
	settings := []string{"WEFT_EXPECT=3", "WEFT_JOIN=" + addrs(lent)}
	install := func(h *lab.Host) error { return h.InstallPlugin(t.Context(), s.plugin, settings...) }
	must(t, each(lent[:2], install))
	eventually(t, spreadWithin, func(ctx context.Context) error {
		return each(lent[:2], func(h *lab.Host) error {
			report, err := s.report(ctx, h)
			if err == nil && (report.State == "ready" || !strings.Contains(strings.Join(report.Problems, "\n"), "WEFT_EXPECT")) {
				err = fmt.Errorf("%s is %s and says %q", h.Name(), report.State, report.Problems)
			}
			return err
		})
	})
	s.refused(lent[0], []string{"WEFT_EXPECT", "3"}, s.create(lent[0], "early")...)

	began := time.Now()
	must(t, install(lent[2]))
	s.hosts = lent
	eventually(t, 2*healWithin, func(ctx context.Context) error { return s.ready(ctx, members, lent...) })
	t.Logf("founded %.1f s after the last one was enabled", time.Since(began).Seconds())
	s.leader() // all three keep the ledger
	cluster := s.oneCluster()
	name := s.network(lent[1], "together", "--subnet", "10.72.2.0/24")
	boxes := s.runOnAll(name, "box")
	s.unique(boxes...)
	s.matrix(boxes...)

	// Its disk is new, so it is another host, of the same cluster.
	must(t, lent[2].PowerOff(t.Context()))
	must(t, os.RemoveAll(lent[2].Disk()))
	must(t, os.MkdirAll(lent[2].Disk(), 0o755))
	must(t, lent[2].PowerOn(t.Context()))
	must(t, install(lent[2]))
	eventually(t, 2*healWithin, func(ctx context.Context) error { return s.ready(ctx, members+1, lent...) })
	if again := s.oneCluster(); again != cluster {
		t.Errorf("with a new disk on %s the cluster is %s, it was %s", lent[2].Name(), again, cluster)
	}
	s.everywhere(name)
	again := s.run(lent[2], name, "again")
	s.unique(boxes[0], boxes[1], again)
	s.matrix(boxes[0], boxes[1], again)
}

// oneCluster is the cluster that all members say they are in.
func (s *scene) oneCluster() string {
	s.t.Helper()
	var out string
	for _, h := range s.members() {
		report, err := s.report(s.t.Context(), h)
		must(s.t, err)
		id := report.Cluster.String()
		if out == "" {
			out = id
		}
		if id != out {
			s.t.Errorf("%s is in cluster %s, another host in %s", h.Name(), id, out)
		}
	}
	return out
}
