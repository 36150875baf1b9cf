package e2e

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/attack"
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
	v := s.victim(a, b, c)
	count := func(of, counter string) float64 {
		all, _ := must1(v.report(t.Context(), a))(t).Counters[of].(map[string]any)
		n, ok := all[counter].(float64)
		if !ok {
			t.Fatalf("%s has no counter %s: %v", of, counter, all)
		}
		return n
	}
	unread := func() float64 { return count("gossip", "malformed") + count("gossip", "foreign") }
	if n := unread(); n > 0 {
		t.Errorf("before the attack gossip could not read %v messages", n)
	}

	target := v.target(a)
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
	if n := unread(); n > 0 {
		t.Errorf("%v messages of a stranger came as far as gossip", n)
	}
	for _, counter := range []string{"strange", "unsealed"} {
		if count("underlay", counter) == 0 {
			t.Errorf("nothing was refused as %s", counter)
		}
	}
	v.unchanged()
	v.works(a, b, "the attack")
	for what, text := range map[string]string{
		"the arguments of a process, or the plugin's settings": must1(a.Exec(t.Context(), "sh", "-c", "cat /proc/*/cmdline; docker plugin inspect "+lab.PluginName))(t),
		"weft status": must1(a.Exec(t.Context(), v.weft, "status", "--json"))(t),
		"the log":     string(must1(os.ReadFile(a.LogDir() + "/dockerd.log"))(t)),
	} {
		if strings.Contains(text, key) {
			t.Errorf("the secret is in %s", what)
		}
	}
}
