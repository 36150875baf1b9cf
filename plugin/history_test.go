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

// heirs are two containers of a keeper that had one address, one after the other, and a host
// that keeps no ledger and is asked about them.
type heirs struct {
	t            *testing.T
	owner, asked *host
	addr         netip.Addr
	first, then  string    // what a host says of them
	began        time.Time // the first
	followed     time.Time // the second
}

// heirsOf removes the first container ten minutes after its start, and starts the second one after ten
// more.
func heirsOf(t *testing.T, c *cluster) heirs {
	t.Helper()
	up(c, 4)
	keep, rest := c.keepers(3)
	k := heirs{t: t, owner: keep[1], asked: rest[0]}
	id := k.owner.network("web", "10.40.0.0/24")
	k.addr = at(k.owner.run("web-1", id, ""))
	k.began = time.Now()
	time.Sleep(10 * time.Minute)
	if err := k.owner.docker.Remove(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Minute)
	k.followed = time.Now()
	k.owner.run("web-2", id, k.addr.String())
	of := "endpoint " + k.owner.set.Name + " " + single(k.addr).String()
	k.first, k.then = of+" web-1 ended", of+" web-2"
	k.owner.until("Docker's name is known", time.Minute, func() bool {
		lines, _ := k.asked.past(api.HistoryQuery{Space: single(k.addr)})
		return slices.Contains(lines, k.then)
	})
	return k
}

// known checks that a host tells of both, and of the block.
func (k heirs) known(from *host, when string) {
	k.t.Helper()
	lines, missing := from.past(api.HistoryQuery{Space: single(k.addr)})
	for _, want := range []string{k.first, k.then} {
		if !slices.Contains(lines, want) {
			k.t.Errorf("%s, %s does not know %q: %q", when, from.set.Name, want, lines)
		}
	}
	granted := slices.ContainsFunc(lines, func(l string) bool { return holds(l, "granted "+k.owner.set.Name, "10.40.0.") })
	if !granted || len(missing) > 0 {
		k.t.Errorf("%s, %s does not know of the block: %q, missing %q", when, from.set.Name, lines, missing)
	}
}

// dated checks that a host says of the container that has the name now since when it is there.
func (k heirs) dated(from *host) {
	k.t.Helper()
	found, err := from.LookupName(k.t.Context(), api.NameQuery{Name: "web-2", Network: "web"})
	if err != nil || len(found[0].Names) != 1 || found[0].Names[0].Since.Sub(k.followed).Abs() > time.Second {
		k.t.Errorf("%s says %+v, %v; want it since %s", from.set.Name, found, err, k.followed)
	}
}

// narrowed checks what is left of the history by time, address, number and host.
func (k heirs) narrowed() {
	k.t.Helper()
	lines, _ := k.asked.past(api.HistoryQuery{Space: single(k.addr), Until: k.began.Add(5 * time.Minute)})
	if !slices.Contains(lines, k.first) || slices.Contains(lines, k.then) {
		k.t.Errorf("in the first five minutes: %q", lines)
	}
	lines, _ = k.asked.past(api.HistoryQuery{Space: single(k.addr), Since: k.began.Add(15 * time.Minute)})
	if slices.Contains(lines, k.first) || !slices.Contains(lines, k.then) {
		k.t.Errorf("later: %q", lines)
	}
	if lines, _ = k.asked.past(api.HistoryQuery{Space: single(netip.MustParseAddr("10.99.0.1"))}); len(lines) > 0 {
		k.t.Errorf("of another address: %q", lines)
	}
	if lines, _ = k.asked.past(api.HistoryQuery{Limit: 2}); len(lines) != 2 {
		k.t.Errorf("two lines: %q", lines)
	}
	if _, err := k.asked.History(k.t.Context(), api.HistoryQuery{Host: "nobody"}); err == nil || !holds(err.Error(), "nobody", "weft status") {
		k.t.Errorf("of no host: %v", err)
	}
}

// TestWhoHadAnAddress: any host, keeper or not, answers who had an address, also for containers that are
// gone and after restarts, and says which hosts it could not ask.
func TestWhoHadAnAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		k := heirsOf(t, c)
		_, err := k.asked.History(t.Context(), api.HistoryQuery{Limit: -3})
		fails(t, time.Now(), err, "-3", "--limit")
		k.known(k.asked, "at first")
		k.known(k.owner, "at first")
		k.owner.restart()
		k.owner.ready()
		k.known(k.asked, "after a restart")
		k.narrowed()
		k.dated(k.asked)
		k.dated(k.owner)

		k.owner.stop()
		begin := time.Now()
		_, missing := k.asked.past(api.HistoryQuery{Space: single(k.addr)})
		if took := time.Since(begin); took > 5*time.Second || !slices.ContainsFunc(missing, func(m string) bool { return holds(m, k.owner.set.Name, "does not answer") }) {
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
