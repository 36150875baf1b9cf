package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// TestIntegrationTwoReleases upgrades a cluster host by host, by the runbook and under traffic, from
// the shipped release to the one after it, which has one more command (build tag nextlevel).
func TestIntegrationTwoReleases(t *testing.T) {
	s := onSpares(t)
	next, err := pluginDir(t.Context(), "nextlevel")
	must(t, err)
	a, b, c := s.trio()
	name := s.network(a, "overlay")
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	stream := s.stream(a, name, "stream", boxes[2])
	shipped, join := s.rig, "WEFT_JOIN="+addrs(s.hosts)
	upgraded := *s.rig
	upgraded.plugin = next
	s.rig = &upgraded

	s.runbook("Upgrade", a, b, c).rest()
	boxes = append(boxes, s.mixed(c, a)...)
	must(t, a.InstallPlugin(t.Context(), next, join))
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, a, b, c) })
	s.weftDoes(a, []string{"feature level 1 of 2: " + b.Name() + " runs an older release"}, "status")
	must(t, wants(s.drop(c, spareRange), "needs feature level 2, and the cluster runs level 1"))
	must(t, b.InstallPlugin(t.Context(), next, join))
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, a, b, c) })
	must(t, s.drop(c, spareRange))
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.risen(ctx, a, b, c) })
	stream.unbroken("a stream between hosts that were upgraded one after the other")

	// A downgrade is refused, and the host that tried it has lost nothing.
	must(t, b.InstallPlugin(t.Context(), shipped.plugin, join))
	eventually(t, 2*healWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, b)
		if err != nil {
			return err
		}
		return wants(errors.New(strings.Join(report.Problems, "\n")), "is too old", "runs level 2, which stays", "install release")
	})
	must(t, b.InstallPlugin(t.Context(), next, join))
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, a, b, c) })
	for i, box := range boxes[:members] {
		if now := s.addr(box.host, box.name, name); now != box.addr {
			t.Errorf("container %d had %s and has %s", i, box.addr, now)
		}
	}
	s.matrix(boxes[:members]...)
	s.matrix(boxes[members:]...)
}

// spareRange is address space that no network comes from.
const spareRange = "10.251.0.0/16"

// mixed uses a cluster of two releases from hosts of both: it makes networks and containers and adds a
// range. The command that only the newer release has is refused.
func (s *scene) mixed(newer, older *lab.Host) []box {
	s.t.Helper()
	s.weftDoes(newer, []string{"range " + spareRange + " is added"}, "range", "add", spareRange)
	must(s.t, wants(s.drop(newer, spareRange), "needs feature level 2, and the cluster runs level 1"))
	s.network(newer, "from-newer")
	s.network(older, "from-older")
	s.run(older, s.name("from-newer"), "one")
	both := []box{s.run(newer, s.name("from-older"), "two"), s.run(older, s.name("from-older"), "three")}
	s.matrix(both...)
	return both
}

// risen is nil when hosts know that the cluster runs level 2 and that the range is gone.
func (s *scene) risen(ctx context.Context, hosts ...*lab.Host) error {
	return each(hosts, func(h *lab.Host) error {
		report, err := s.report(ctx, h)
		if err != nil {
			return err
		}
		left := slices.ContainsFunc(report.Ranges, func(r api.RangeUse) bool { return r.Prefix.String() == spareRange })
		if report.Ledger.Level != 2 || report.Level != 2 || left {
			return fmt.Errorf("%s says level %d of %d, and has ranges %v", h.Name(), report.Ledger.Level, report.Level, report.Ranges)
		}
		return nil
	})
}

// drop has a host's agent take address space back, which only the next release can.
func (s *scene) drop(h *lab.Host, prefix string) error {
	s.t.Helper()
	root, err := h.Root()
	must(s.t, err)
	body, err := json.Marshal(api.Range{Prefix: netip.MustParsePrefix(prefix)})
	must(s.t, err)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://weft/ranges/drop", bytes.NewReader(body))
	must(s.t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", root+api.SocketPath)
	}}}
	resp, err := client.Do(req)
	must(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(s.t, err)
	if resp.StatusCode != http.StatusOK {
		return errors.New(string(text))
	}
	return nil
}

// wants is nil if an error says all these words.
func wants(err error, words ...string) error {
	if err == nil {
		return fmt.Errorf("no error, want %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			return fmt.Errorf("%w\nsays no %q", err, word)
		}
	}
	return nil
}
