package e2e

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/attack"
	"github.com/weftnet/weft/netmap"
)

// TestIntegrationAStrangerStaysOutside: on hosts with a secret, what a stranger without it sends reaches neither gossip nor
// ledger, changes nothing and costs container traffic no packet; weft status says that it tries.
func TestIntegrationAStrangerStaysOutside(t *testing.T) {
	s := onSpares(t)
	const key = "0123456789abcdef0123456789abcdef"
	lent := s.lend(members)
	must(t, each(lent, func(h *lab.Host) error {
		_, err := h.Exec(t.Context(), "sh", "-c", "umask 077; mkdir -p /var/lib/weft; echo "+key+" >/var/lib/weft/secret")
		return err
	}))
	s.found(lent, "WEFT_SECRET=file:/var/lib/weft/secret")
	a, b, c := lent[0], lent[1], lent[2]
	name := s.network(a, "calm")
	from, to := s.run(b, name, "from"), s.run(c, name, "to")
	s.reach(from, to.addr)
	v := &victim{scene: s, agents: map[int]agent{}}
	for _, h := range []*lab.Host{a, b, c} {
		v.agents[h.Number()] = must1(v.look(t.Context(), h))(t)
	}
	hears := func(counter string) float64 {
		all, _ := must1(v.report(t.Context(), a))(t).Counters["gossip"].(map[string]any)
		n, ok := all[counter].(float64)
		if !ok {
			t.Fatalf("no counter %s of gossip's: %v", counter, all)
		}
		return n
	}
	if n := hears("malformed") + hears("foreign"); n > 0 {
		t.Errorf("before the attack gossip could not read %v messages", n)
	}

	at := v.agents[a.Number()]
	target := attack.Target{
		Addr: at.underlay, Host: at.self, Cluster: at.cluster, Others: []netmap.HostID{v.agents[b.Number()].self, v.agents[c.Number()].self},
		Dial: s.lab.Host(hosts).Dial, From: netip.AddrPortFrom(s.lab.Host(hosts).Addr4(), at.underlay.Port()),
	}
	ctx, cancel := context.WithTimeout(t.Context(), lasts())
	defer cancel()
	var all sync.WaitGroup
	for _, what := range slices.Concat(attack.Facts(), attack.Raft(), attack.Commands()) {
		all.Go(func() { _ = what.Run(ctx, target) }) // nobody answers it, which it may call an error
	}
	lost := pings(t.Context(), from, to.addr)
	all.Wait()
	if lost != "0" {
		t.Errorf("pings lost: %s", lost)
	}
	report := must1(v.report(t.Context(), a))(t)
	told := func(word string) bool {
		return slices.ContainsFunc(report.Problems, func(p string) bool { return strings.Contains(p, word) })
	}
	if !told("the host at "+target.From.Addr().String()+" is refused: this host has a secret") || len(report.Secrets) != 1 {
		t.Errorf("weft status says %q, with secrets %q", report.Problems, report.Secrets)
	}
	if n := hears("malformed") + hears("foreign"); n > 0 {
		t.Errorf("%v messages of a stranger came as far as gossip", n)
	}
	if counts, _ := report.Counters["underlay"].(map[string]any); counts["strange"] == float64(0) || counts["unsealed"] == float64(0) {
		t.Errorf("nothing was refused: %v", counts)
	}
	v.unchanged()
	v.works(a, b, "the attack")
	if text := must1(a.Exec(t.Context(), "sh", "-c", "cat /proc/*/cmdline; docker plugin ls --format '{{json .}}'"))(t); strings.Contains(text, key) {
		t.Error("the secret is in the arguments of a process")
	}
	if text := must1(a.Exec(t.Context(), v.weft, "status", "--json"))(t); strings.Contains(text, key) {
		t.Error("weft status shows the secret")
	}
}
