package plugin_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
)

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// past asks a host, in words: what host space container network.
func (h *host) past(q api.HistoryQuery) (lines, missing []string) {
	h.c.t.Helper()
	got, err := h.History(h.c.t.Context(), q)
	if err != nil {
		h.c.t.Fatal(err)
	}
	for _, l := range got.Lines {
		ended := ""
		if !l.Ended.IsZero() {
			ended = " ended"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s%s", l.What, l.Host, l.Space, l.Container, ended))
	}
	return lines, got.Missing
}

// TestWhoHadAnAddress is answered by any host, keeper or not, for containers that
// are gone and after restarts, and says whom it could not ask.
func TestWhoHadAnAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 4)
		keep, rest := c.keepers(3)
		asked, owner := rest[0], keep[1]
		id := owner.network("web", "10.40.0.0/24")
		first := owner.run("web-1", id, "")
		a := at(first)
		began := time.Now()
		time.Sleep(10 * time.Minute)
		if err := owner.docker.Remove(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		owner.run("web-2", id, a.String())
		owner.until("Docker's name is known", time.Minute, func() bool {
			lines, _ := asked.past(api.HistoryQuery{Space: single(a)})
			return slices.Contains(lines, "endpoint "+owner.set.Name+" "+single(a).String()+" web-2")
		})
		want := []string{
			"endpoint " + owner.set.Name + " " + single(a).String() + " web-1 ended",
			"endpoint " + owner.set.Name + " " + single(a).String() + " web-2",
		}
		_, err := asked.History(t.Context(), api.HistoryQuery{Limit: -3})
		fails(t, time.Now(), err, "-3", "--limit")
		check := func(from *host, when string) {
			t.Helper()
			lines, missing := from.past(api.HistoryQuery{Space: single(a)})
			for _, w := range want {
				if !slices.Contains(lines, w) {
					t.Errorf("%s, %s does not know %q: %q", when, from.set.Name, w, lines)
				}
			}
			granted := slices.ContainsFunc(lines, func(l string) bool { return holds(l, "granted "+owner.set.Name, "10.40.0.") })
			if !granted || len(missing) > 0 {
				t.Errorf("%s, %s does not know of the block: %q, missing %q", when, from.set.Name, lines, missing)
			}
		}
		check(asked, "at first")
		check(owner, "at first")
		owner.restart()
		owner.ready()
		check(asked, "after a restart")

		lines, _ := asked.past(api.HistoryQuery{Space: single(a), Until: began.Add(5 * time.Minute)})
		if !slices.Contains(lines, want[0]) || slices.Contains(lines, want[1]) {
			t.Errorf("in the first five minutes: %q", lines)
		}
		lines, _ = asked.past(api.HistoryQuery{Space: single(a), Since: began.Add(15 * time.Minute)})
		if slices.Contains(lines, want[0]) || !slices.Contains(lines, want[1]) {
			t.Errorf("later: %q", lines)
		}
		if lines, _ = asked.past(api.HistoryQuery{Space: single(netip.MustParseAddr("10.99.0.1"))}); len(lines) > 0 {
			t.Errorf("of another address: %q", lines)
		}
		if lines, _ = asked.past(api.HistoryQuery{Limit: 2}); len(lines) != 2 {
			t.Errorf("two lines: %q", lines)
		}
		if _, err := asked.History(t.Context(), api.HistoryQuery{Host: "nobody"}); err == nil || !holds(err.Error(), "nobody", "weft status") {
			t.Errorf("of no host: %v", err)
		}
		owner.stop()
		begin := time.Now()
		_, missing := asked.past(api.HistoryQuery{Space: single(a)})
		if took := time.Since(begin); took > 5*time.Second || !slices.ContainsFunc(missing, func(m string) bool { return holds(m, owner.set.Name, "does not answer") }) {
			t.Errorf("without its host: missing %q after %v", missing, took)
		}
	})
}

// TestHistoryOfARemoval names who did it, and that the blocks were taken.
func TestHistoryOfARemoval(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		gone := hosts[2]
		gone.run("a", gone.network("web", "10.40.0.0/24"), "")
		hosts[1].network("web", "10.40.0.0/24")
		id := gone.Report().Self.String()
		gone.stop()
		if _, err := hosts[1].RemoveHost(t.Context(), api.Removal{Host: id, IsOff: true}); err != nil {
			t.Fatal(err)
		}
		got, err := hosts[0].History(t.Context(), api.HistoryQuery{Host: id})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(got.Missing, func(m string) bool { return holds(m, gone.set.Name, "no member any more") }) {
			t.Errorf("it does not say that the containers of %s are not told: %q", gone.set.Name, got.Missing)
		}
		said := map[string]string{}
		for _, l := range got.Lines {
			said[l.What] = l.By
		}
		if said["removed"] != hosts[1].set.Name || said["taken"] != hosts[1].set.Name {
			t.Errorf("it says %+v", got.Lines)
		}
		if _, ok := said["joined"]; !ok {
			t.Errorf("it does not say when the host came: %+v", got.Lines)
		}
	})
}
