package exact_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutation breaks one rule of the product: where it is, what it says and what is to
// stand there instead. The simulation must notice.
type mutation struct {
	rule string // that is broken
	file string // from the repository's root
	old  string // must occur exactly once
	now  string
}

var mutations = []mutation{
	{
		"answer before the disk write", "ipam/receipt/receipt.go",
		"if err := d.Commit(set, del...); err != nil {\n\t\treturn Receipt[T]{}, err\n\t}", "go func() { _ = d.Commit(set, del...) }()",
	},
	{
		"skip the removal check", "ledger/apply_host.go",
		"case t.self.Removed:", "case false:",
	},
	{
		"grant one block twice", "ledger/apply_block.go",
		"case owned || full[p]:", "case owned && s.blocks[p].Owner == t.cmd.Host || full[p]:",
	},
	{
		"remove a host before its lease is over", "ledger/apply_host.go",
		"!r.IsOff && left > 0", "!r.IsOff && left > Lease",
	},
	{
		"ignore an expired lease", "plugin/lease.go",
		"left := l.sent.Left(now)\n\tswitch {", "left := l.sent.Left(now)\n\tleft = ledger.Lease\n\tswitch {",
	},
	{
		"cede without forsaking on disk first", "ipam/cede.go",
		"set[key(kindForeign, a)] = encode(to)", "_ = to",
	},
	{
		"cede what a container holds", "ipam/cede.go",
		"case used.Held:", "case used.Held && p.gone:",
	},
	{
		"claim what is being ceded", "ipam/cede.go",
		"return i.cfg.Decisions.Cede(ctx, given)", "i.end(p, a)\n\treturn i.cfg.Decisions.Cede(ctx, given)",
	},
	{
		"forget a foreign claim in a granted block", "ipam/grant.go",
		"\tfor _, c := range claims {\n\t\tp.Forsake(c.Addr, c.Owner)\n\t}\n", "",
	},
	{
		"ask for the lease only before the write", "ipam/request_address.go",
		"if err := i.mayHandOut(now, p, a); err != nil {", "if err := i.mayHandOut(now, p, a); err != nil && ctx.Err() != nil {",
	},
	{
		"keep a lease through a reboot by the wall clock alone", "ledger/lease.go",
		"return Lease - RebootDoubt - max(passed, now.Up)", "return Lease - passed",
	},
	{
		"answer a repeated request anew", "ledger/session.go",
		"if t.cmd.Request == 0 ||", "if t.cmd.Request > 0 ||",
	},
}

// TestMutationsStillApply: who changes a rule's text sees at once that its mutation
// must follow.
func TestMutationsStillApply(t *testing.T) {
	for _, m := range mutations {
		text, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), m.old); n != 1 {
			t.Errorf("%s: %s has %d times %q; the rule stands elsewhere now, say where in sim/exact/mutation_test.go", m.rule, m.file, n, m.old)
		}
	}
}

// mostSeeds is after how many seeds a mutation counts as not noticed.
const mostSeeds = 400

// TestExactNoticesBrokenRules builds the product with one rule broken at a time and
// runs seeds until an invariant fails. A check that never fails proves nothing.
func TestExactNoticesBrokenRules(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the product many times")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	only := regexp.MustCompile(os.Getenv("WEFT_MUTATION"))
	for _, m := range mutations {
		if only.MatchString(m.rule) {
			t.Run(m.rule, func(t *testing.T) {
				t.Parallel() // in processes of their own
				m.mustBeNoticed(t, root)
			})
		}
	}
}

func (m mutation) mustBeNoticed(t *testing.T, root string) {
	binary := m.build(t, root)
	run := exec.CommandContext(t.Context(), binary, "-test.run", "^TestExactUntilItFails$", "-test.v")
	run.Env = append(os.Environ(), fmt.Sprintf("WEFT_UNTIL=%d", mostSeeds))
	out, err := run.CombinedOutput()
	if err == nil {
		t.Fatalf("nobody noticed in %d seeds", mostSeeds)
	}
	found := regexp.MustCompile(`(?m)^\s*\S+: (after \d+ seeds: .*)$`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("it ends in another way: %v\n%s", err, out)
	}
	t.Logf("noticed %.300s", found[1])
}

// build makes this very test with the product's mutated text.
func (m mutation) build(t *testing.T, root string) string {
	path := filepath.Join(root, m.file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mutant, overlay, binary := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "exact.test")
	words, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{mutant: []byte(strings.Replace(string(text), m.old, m.now, 1)), overlay: words} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// TestExactUntilItFails is what the mutants run: chance and scenes in turn.
func TestExactUntilItFails(t *testing.T) {
	var most uint64
	if _, err := fmt.Sscan(os.Getenv("WEFT_UNTIL"), &most); err != nil {
		t.Skip("for TestExactNoticesBrokenRules")
	}
	for seed := uint64(1); seed <= most; seed++ {
		s := scenes[seed%uint64(len(scenes))]
		for what, w := range map[string]*world{"": simulate(t, seed, false), s.name + ": ": s.stagedBy(t, seed)} {
			if len(w.fault) > 0 {
				t.Fatalf("after %d seeds: %s%s", seed, what, strings.ReplaceAll(w.fault[0], "\n", " "))
			}
		}
	}
}
