package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/ipam"
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
	asked, refusal := s.exhaust(c, m.subnet.String())
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
	s.release(c, asked)
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

// exhaust asks a host's agent for addresses, as Docker does it, until it refuses, and
// keeps the disk full meanwhile.
func (s *scene) exhaust(h *lab.Host, subnet string) (got []ipam.AddressRelease, refusal string) {
	s.t.Helper()
	client, done := s.asDocker(h)
	defer done()
	pool, err := ask[ipam.PoolResponse](s.t.Context(), client, "RequestPool", ipam.PoolRequest{AddressSpace: "weft", Pool: subnet})
	must(s.t, err)
	for len(got) < 20000 {
		a, err := ask[ipam.AddressResponse](s.t.Context(), client, "RequestAddress", ipam.AddressRequest{PoolID: pool.PoolID})
		if err != nil {
			return got, err.Error()
		}
		addr, _, _ := strings.Cut(a.Address, "/")
		got = append(got, ipam.AddressRelease{PoolID: pool.PoolID, Address: addr})
		if len(got)%100 == 0 {
			must(s.t, fill(s.t.Context(), h))
		}
	}
	s.t.Fatal("20000 addresses were handed out on a full disk")
	return nil, ""
}

// release gives addresses back as Docker does it.
func (s *scene) release(h *lab.Host, all []ipam.AddressRelease) {
	s.t.Helper()
	client, done := s.asDocker(h)
	defer done()
	for _, one := range all {
		_, err := ask[struct{}](s.t.Context(), client, "ReleaseAddress", one)
		must(s.t, err)
	}
}

// asDocker is a client of the plugin's socket.
func (s *scene) asDocker(h *lab.Host) (client *http.Client, done func()) {
	s.t.Helper()
	socket, closeDir := s.socket(h)
	client = &http.Client{Timeout: answerWithin, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return client, func() { client.CloseIdleConnections(); closeDir() }
}

// ask makes one call of the IPAM protocol.
func ask[Answer any](ctx context.Context, client *http.Client, method string, question any) (out Answer, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weft/IpamDriver."+method, strings.NewReader(string(body)))
	if err != nil {
		return out, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return out, err
	}
	var failure struct{ Error string }
	if err := json.Unmarshal(answer, &failure); err != nil {
		return out, fmt.Errorf("%s: %w: %s", resp.Status, err, answer)
	}
	if failure.Error != "" {
		return out, errors.New(failure.Error)
	}
	return out, json.Unmarshal(answer, &out)
}
