package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/turn"
)

// tideTurns bounds how long a disk is full, and how long it has room.
const tideTurns = 4 * time.Second

// TestIntegrationStormOnFullDisks is TestIntegrationStorm with disks of the state directories that
// become full again and again, on all hosts, which all keep the ledger. Running containers continue.
// A killed agent starts with the space that it has reserved. When that is used up too, calls that
// need the disk fail with the reason. With space again everything works by itself, and no address is
// doubled or lost.
func TestIntegrationStormOnFullDisks(t *testing.T) {
	long(t)
	s := stage(t)
	lent := s.lend(members) // before others do: it takes longest
	t.Parallel()
	must(t, each(lent, s.smallDisk))
	s.found(lent, "WEFT_LOG_LEVEL=debug")
	m := s.storm("10.73.0.0/25", "/28")
	boxes := s.runOnAll(m.network, "box")
	s.matrix(boxes...)
	stream := s.stream(lent[0], m.network, "stream", boxes[2])

	m.begin(stormWorkers)
	must(t, each(lent, func(h *lab.Host) error {
		return m.tide(h, func() error { return m.strike(h, kills()/fullDiskShare/members) })
	}))
	m.end()
	m.met("docker run", kills()/fullDiskShare/4)
	m.met("killed on a full disk", kills()/fullDiskShare/4)

	m.fullAlone(lent[2], lent[0])
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.ready(ctx, members, lent...) })
	s.everywhere(s.name("meanwhile"))
	s.matrix(boxes...)
	stream.unbroken("a stream to a host whose disk was full")
	m.survivors()
	m.quiet()
	s.rest()
	eventually(t, 5*time.Minute, m.restored)
}

// fullAlone fills one disk and leaves it full. The agent starts on it and reports a problem, and the
// other hosts still get decisions.
func (m *storm) fullAlone(h, other *lab.Host) {
	m.t.Helper()
	ctx := m.t.Context()
	must(m.t, m.wear(ctx, h))
	m.refused(h, []string{"the disk of the state directory is full", "make room", "no space left on device"}, m.command(h, m.network, "full")...)
	must(m.t, h.KillAgent(ctx))
	eventually(m.t, healWithin, func(ctx context.Context) error { // it says so once a write failed
		report, err := m.report(ctx, h)
		if said := strings.Join(report.Problems, "\n"); err == nil && !strings.Contains(said, "full") {
			err = fmt.Errorf("weft status does not say that the disk is full: %q", said)
		}
		return err
	})
	// If the killed agent led the ledger, the other two elect a leader first. On a busy machine that
	// takes longer than one call of Docker's waits.
	eventually(m.t, healWithin, func(ctx context.Context) error {
		_, err := other.Docker(ctx, m.create(other, "meanwhile")...)
		return err
	})
	must(m.t, drain(ctx, h))
}

// wear uses up the space that an agent has reserved on its full disk, and the free pages of its state
// file, which still take records of the same size. It requests and releases addresses: first under
// long names, which need new space, until one is refused, then without names, until every write is
// refused.
func (m *storm) wear(ctx context.Context, h *lab.Host) error {
	client, done, err := m.asDocker(ctx, h)
	if err != nil {
		return err
	}
	defer done()
	pool, err := ask[ipam.PoolResponse](ctx, client, "RequestPool", ipam.PoolRequest{AddressSpace: "weft", Pool: m.subnet.String()})
	if err != nil {
		return err
	}
	for _, long := range []string{strings.Repeat("x", 32<<10), ""} {
		if err := m.askUntilFull(ctx, h, client, pool.PoolID, long); err != nil {
			return err
		}
	}
	return nil
}

// askUntilFull requests and releases addresses until one is refused because the disk is full. It
// fills what the agent frees meanwhile.
func (m *storm) askUntilFull(ctx context.Context, h *lab.Host, client *http.Client, pool, name string) error {
	for n := range 4000 {
		if n%100 == 0 {
			if err := fill(ctx, h); err != nil {
				return err
			}
		}
		options := map[string]string{"com.docker.network.endpoint.name": fmt.Sprint(n, name)}
		a, err := ask[ipam.AddressResponse](ctx, client, "RequestAddress", ipam.AddressRequest{PoolID: pool, Options: options})
		if err == nil {
			addr, _, _ := strings.Cut(a.Address, "/")
			_, err = ask[struct{}](ctx, client, "ReleaseAddress", ipam.AddressRelease{PoolID: pool, Address: addr})
		}
		switch {
		case err != nil && diskFull.MatchString(err.Error()):
			return nil
		case err != nil:
			return err
		}
	}
	return errors.New("after 4000 addresses the full disk is still not felt")
}

// tide fills a host's disk and makes room again, for as long as something else takes.
func (m *storm) tide(h *lab.Host, during func() error) error {
	ctx, over := context.WithCancel(m.t.Context())
	var struck error
	go func() {
		defer over()
		struck = during()
	}()
	var errs error
	for ctx.Err() == nil {
		errs = errors.Join(errs, fill(m.t.Context(), h))
		m.tally("a disk was filled")
		turn.Sleep(ctx, rand.N(tideTurns)) // if it ends early, so does the tide
		errs = errors.Join(errs, drain(m.t.Context(), h))
		turn.Sleep(ctx, rand.N(tideTurns))
	}
	return errors.Join(struck, errs)
}

// ballast is what fills a disk.
const ballast = "/var/lib/weft/ballast"

// smallDisk gives a host's state directory, which must be empty, a disk of its own, until
// the host is wiped.
func (s *scene) smallDisk(h *lab.Host) error {
	_, err := h.Exec(s.t.Context(), "sh", "-c", "mkdir -p /var/lib/weft && mount -t tmpfs -o size=24m,mode=700 tmpfs /var/lib/weft")
	return err
}

// fill leaves no byte on the disk of a host's state directory.
func fill(ctx context.Context, h *lab.Host) error {
	_, err := h.Exec(ctx, "sh", "-c", "cat /dev/zero >>"+ballast+"; while head -c 1024 /dev/zero >>"+ballast+"; do :; done")
	if err != nil && !strings.Contains(err.Error(), "No space left") {
		return err
	}
	return nil
}

// drain makes room again.
func drain(ctx context.Context, h *lab.Host) error {
	_, err := h.Exec(ctx, "rm", ballast)
	return err
}

// full reports whether a host's disk is filled at this moment.
func full(h *lab.Host) bool {
	root, err := h.Root()
	if err == nil {
		_, err = os.Stat(root + ballast)
	}
	return err == nil
}
