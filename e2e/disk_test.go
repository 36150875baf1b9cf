package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationDiskFullUnderLoad: the state directory of one host, which keeps the ledger too, is
// filled under load. What runs goes on; what needs the disk is refused and says why;
// the cluster does not notice; an agent can be started; and once there is room
// again everything goes on by itself, with nothing doubled or lost.
func TestIntegrationDiskFullUnderLoad(t *testing.T) {
	s := stage(t)
	t.Parallel()
	lent := s.lend(members)
	a, b, c := lent[0], lent[1], lent[2]
	s.smallDisk(c)
	s.found(lent, "WEFT_LOG_LEVEL=debug")
	m := s.storm("10.73.0.0/16", "/20")
	boxes := s.runOnAll(m.network, "box")
	s.matrix(boxes...)
	in, out := s.stream(a, m.network, "in", boxes[2]), s.stream(c, m.network, "out", boxes[0])
	m.begin(1)

	must(t, fill(t.Context(), c))
	asked, refusal, err := s.exhaust(t.Context(), c, m.subnet.String(), func() error { return fill(t.Context(), c) })
	must(t, err)
	t.Logf("on the full disk %d addresses were handed out before: %s", len(asked), refusal)
	if !diskFull.MatchString(refusal) {
		t.Errorf("the refusal does not say what is full: %s", refusal)
	}
	s.refused(c, []string{"the disk of the state directory is full", "make room", "no space left on device"}, s.command(c, m.network, "full")...)
	s.matrix(append(boxes, s.run(a, m.network, "elsewhere"))...)
	s.docker(b, s.create(b, "meanwhile")...) // two of three keepers decide
	must(t, c.KillAgent(t.Context()))        // and Docker starts another
	report, err := s.report(t.Context(), c)
	must(t, err)
	if said := strings.Join(report.Problems, "\n"); !strings.Contains(said, "full") {
		t.Errorf("weft status does not say that the disk is full: %q", said)
	}
	s.matrix(boxes...)

	_, err = c.Exec(t.Context(), "rm", ballast)
	must(t, err)
	eventually(t, healWithin, func(ctx context.Context) error {
		_, err := c.Docker(ctx, "start", s.name("full"))
		return err
	})
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.ready(ctx, members, lent...) })
	s.everywhere(s.name("meanwhile"))
	m.end()
	in.unbroken("a stream to the host with the full disk")
	out.unbroken("a stream from it")
	m.survivors()
	m.quiet()
	must(t, s.release(t.Context(), c, asked))
	// What could not be released on a full disk is released within a minute; what the
	// killed agent was told, when it is an endpoint that Docker does not have, after one,
	// and then its address as one that nobody comes for.
	eventually(t, 5*time.Minute, func(ctx context.Context) error { return s.free(ctx, m.network, lent...) })
}

// ballast is what fills a disk.
const ballast = "/var/lib/weft/ballast"

// smallDisk gives a host's state directory, which must be empty, a disk of its own, until
// the host is wiped.
func (s *scene) smallDisk(h *lab.Host) {
	s.t.Helper()
	_, err := h.Exec(s.t.Context(), "sh", "-c", "mkdir -p /var/lib/weft && mount -t tmpfs -o size=24m,mode=700 tmpfs /var/lib/weft")
	must(s.t, err)
}

// fill leaves no byte on the disk of a host's state directory.
func fill(ctx context.Context, h *lab.Host) error {
	_, err := h.Exec(ctx, "sh", "-c", "cat /dev/zero >"+ballast+"; while head -c 1024 /dev/zero >>"+ballast+"; do :; done")
	if err != nil && !strings.Contains(err.Error(), "No space left") {
		return err
	}
	return nil
}
