package exact_test

import (
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mutation breaks one rule of the product: where it is, what it says and what is to
// stand there instead. The simulation must notice, and for the right reason.
type mutation struct {
	rule  string // that is broken
	found string // an expression for what must be reported then; other faults do not count
	file  string // from the repository's root
	by    string // the scene that notices it, or byChance; others are tried after it
	old   string // must occur exactly once
	now   string
}

// byChance are seeds without a scene.
const byChance = ""

// What is reported of an invariant that does not hold.
const (
	notOnDisk   = `^\(3\) .* answered .*, which is not on its disk`
	twice       = `^\(1\) \(2\) .* was given to .* and before to`
	byTwo       = `^\(1\) .* is held by .* and by`
	notItsOwn   = `^\(4\) .* hands out .*, which is .*'s by decision`
	afterAll    = `^\(4\) .* hands out .* though its lease ended`
	notRefused  = `<nil>; want a refusal that says "wall clock"`
	tooSoon     = `<nil>; want a refusal that says "may hand out addresses for another"`
	heeded      = `^\(4\) .* was removed by decision .*, and is answered`
	noMember    = `^\(4\) .* hands out .*, and was removed by decision`
	oldStart    = `^\(4\) start .* of .* is answered .*, and start .* was admitted`
	believed    = `^not within .*: the others believe the host: `
	notInUse    = `^\(4\) .* hands out .*, which was not in use on the old disk that it booted with`
	twoClusters = `^\(5\) .* founds cluster .*, and cluster .* was founded`
	elsewhere   = `^after everything healed .* must be admitted again`
	oneVNI      = `^\(5\) networks .* share VNI`
	twoAnswers  = `^\(5\) request .* was answered .* and now`
	leaked      = `^not within .*: what nobody uses goes back: .* has a claim`
	remembered  = `^not within .*: what nobody uses is gone: `
	unknown     = `^not within .*: what nobody uses goes back: no host knows that it has `
	miscounted  = `^not within .*: nobody is counted among the users of what he does not have: .* uses `
	stillIn     = `^not within .*: nobody is counted among the users of what he does not have: .* is in network `
)

var mutations = []mutation{
	{
		"answer before the disk write", notOnDisk, "store/synced/synced.go",
		byChance,
		"if err := d.Commit(set, del...); err != nil {\n\t\treturn Value[T]{}, err\n\t}", "go func() { _ = d.Commit(set, del...) }()",
	},
	{
		"skip the removal check", heeded, "ledger/state/apply_host.go",
		"25: two operators on two sides remove one host",
		"case t.self.Removed:", "case false:",
	},
	{
		"grant one block twice", notItsOwn, "ledger/state/free.go",
		"2: three seeds found at once",
		"case owned || f.full(s, p):", "case owned && false || f.full(s, p):",
	},
	{
		"give out single addresses of an owned block", notItsOwn, "ledger/state/free.go",
		byChance,
		"return node{none, none, 1}", "return node{none, 1, 1}",
	},
	{
		"hand out while the ledger may let the host leave", noMember, "lease/lease.go",
		"a host leaves and does not hear that it has",
		"case l.leaving != nil:", "case l.leaving != nil && l.sent.Boot == \"\":",
	},
	{
		"remove a host before its lease is over", noMember + "|" + tooSoon, "ledger/state/apply_host.go",
		"26: the removal of a parted host waits for its lease",
		"!r.IsOff && left > 0", "!r.IsOff && left > lease.Length",
	},
	{
		"ignore an expired lease", afterAll, "lease/lease.go",
		"26: the removal of a parted host waits for its lease",
		"left := l.sent.Left(now)\n\tswitch {", "left := l.sent.Left(now)\n\tleft = Length\n\tswitch {",
	},
	{
		"cede without forsaking on disk first", notItsOwn, "ipam/cede.go",
		"who ceded an address starts again, alone",
		"set[key(kindForeign, a)] = encode(to)", "_ = to",
	},
	{
		"cede what a container holds", twice, "ipam/cede.go",
		byChance,
		"case used.Held:", "case used.Held && p.releasing:",
	},
	{
		"adopt with a block what was ceded meanwhile", twice + "|" + notItsOwn, "ipam/grant.go",
		"what a block on its way brings is ceded meanwhile",
		"append(slices.DeleteFunc(slices.Clone(claims), p.overtook), p.cededClaims()...)", "slices.DeleteFunc(slices.Clone(claims), p.overtook)",
	},
	{
		"take home what another host still has", twice + "|" + notItsOwn, "ipam/repair.go",
		"one of two addresses that were ceded comes home",
		"\tfor _, c := range claims {\n\t\tlocked = p.unlockOne(locked, c.Addr)\n\t}\n", "\t_ = claims\n",
	},
	{
		"reuse before release", twice, "ipam/sweep.go",
		"a container takes a minute from its address to its endpoint",
		"(u.Leaving || p.abandoned(a))", "(u.Leaving || p.since != nil)",
	},
	{
		"give an endpoint what was taken back from it", byTwo, "ipam/sweep.go",
		"a container comes for its address when that is taken back",
		"u.Held && !u.Leaving && !u.Evicted && p.Owns(a) && !p.Locked(a) && !p.releasing {", "!p.releasing || u.Held {",
	},
	{
		"forget a foreign claim in a granted block", notItsOwn, "ipam/grant.go",
		byChance,
		"\tfor _, c := range slices.DeleteFunc(claims, p.overtook) {\n\t\tp.Forsake(c.Addr, c.Owner)\n\t}\n", "",
	},
	{
		"ask for the lease only before the write", afterAll, "ipam/allocate.go",
		"31: all machines sleep for longer than the lease",
		"if err := p.mayHandOut(now, a); err != nil {", "if err := p.mayHandOut(now, a); err != nil && ctx.Err() != nil {",
	},
	{
		"keep a lease through a reboot by the wall clock alone", notRefused + "|" + afterAll, "lease/moment.go",
		"18: a host boots and no keeper is there",
		"return Length - RebootDoubt - max(passed, now.Up)", "return Length - passed",
	},
	{
		"hand out anything after a boot", notInUse, "lease/lease.go",
		"22: an old disk is booted and no keeper is there",
		"case l.sent.Boot != now.Boot:", "case l.sent.Boot == now.Boot && left > Length:",
	},
	{
		"trust an old disk whose start the ledger accepts", notItsOwn, "member/stale.go",
		"22: an old disk of the newest start is booted",
		"if how != \"\" {", "if how != \"\" && index == 0 {",
	},
	{
		"trust an old disk that was put in without a boot", twice, "member/incarnation.go",
		"22: an old disk is put in without a boot",
		"case !mine.follows(last, m.identity):", "case !mine.follows(last, m.identity) && last.Start == 0:",
	},
	{
		"let a clone go on", oldStart, "ledger/state/apply_host.go",
		byChance,
		"case shown == h.Incarnation:", "case shown == h.Incarnation || shown.Start < h.Incarnation.Start && t.cmd.Kind != KindAdmit:",
	},
	{
		"let the others believe a copy that is refused", believed, "member/clone.go",
		"21: a copy that is refused has started more often than the host",
		"time.Since(m.newest.since) < newerStays", "newerStays > 0",
	},
	{
		"count the lease from the answer", afterAll, "member/maintain.go",
		"31: the answer to a renewal comes after hours of sleep",
		"return m.lease.Grant(sent)", "sent, _ = m.clocks.Sending()\n\treturn m.lease.Grant(sent)",
	},
	{
		"stamp a renewal by the wall clock as it is set", noMember, "lease/clocks.go",
		"31: a wall clock was ahead at the renewal and is right after a boot",
		"m.Wall = s.Earliest.Add(m.Up)", "_ = s",
	},
	{
		"accept a foreign ledger", elsewhere, "ledger/state/apply_host.go",
		"a host that starts again asks another cluster's ledger",
		"case !c.Cluster.IsZero() && c.Cluster != t.cluster:", "case false:",
	},
	{
		"hand out what a container here holds", twice, "ipam/static.go",
		byChance,
		"case used.Held && !p.again(a, used, use):", "case used.Held && p.releasing:",
	},
	{
		"give two networks one VNI", oneVNI, "ledger/state/apply_network.go",
		byChance,
		"if used[vni] == nil {\n\t\t\treturn vni, nil", "if vni > 0 {\n\t\t\treturn netmap.FirstVNI, nil",
	},
	{
		"hand out what is another host's", notItsOwn, "ipam/static.go",
		byChance,
		"case !p.Owns(a):", "case p.releasing:",
	},
	{
		"return a block in which a container has an address", twice, "ipam/pool/drop.go",
		byChance,
		"if s == nil || s.Held > 0 {", "if s == nil {",
	},
	{
		"found without most of the named hosts", twoClusters, "ledger/founding/plan.go",
		byChance,
		"return t.hosts >= t.expect && 2*t.named > t.places", "return t.hosts >= 1",
	},
	{
		"decide what was given up", twoAnswers, "ledger/state/session.go",
		byChance,
		"if t.cmd.Request < s.lowestOpen {", "if t.cmd.Request < s.lowestOpen && t.cmd.Request == 0 {",
	},
	{
		"answer a repeated request anew", twoAnswers, "ledger/state/session.go",
		byChance,
		"if t.cmd.Request == 0 ||", "if t.cmd.Request > 0 ||",
	},
	{
		"keep an idle claim", leaked, "ipam/giveup.go",
		byChance,
		"case now.Sub(since) >= idleFor:", "case now.Sub(since) >= idleFor && p.releasing:",
	},
	{
		"trust the disk to know what the ledger counts the host among", unknown + "|" + miscounted, "ipam/ipam.go",
		"a disk is from before a subnet was taken into use",
		"i.mustSendUsed.Store(true)", "i.mustSendUsed.Store(false)",
	},
	{
		"forget a subnet whose answer was lost", miscounted, "ipam/request_pool.go",
		"the answer to who asked for any subnet is lost",
		"before := i.mustSendUsed.Swap(true)", "before := i.mustSendUsed.Load()",
	},
	{
		"keep a pool for a network that never came to be", remembered + "|" + stillIn, "ipam/sweep.go",
		"the agent ends between a pool and its network, and is away until Docker gave up",
		"if time.Since(since) >= answersWithin {", "if time.Since(since) < 0 {",
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

// mostKnown is after how many seeds of what noticed a mutation before everything is tried,
// mostSeeds after how many of those it counts as not noticed.
const (
	mostKnown = 6
	mostSeeds = 60
)

// TestExactNoticesBrokenRules runs the product with one rule broken at a time, with seeds
// until the invariant fails that the rule is for. The product with no rule
// broken must pass the same seeds.
func TestExactNoticesBrokenRules(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the product and runs it for minutes")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary := buildMutants(t, root)
	only := regexp.MustCompile(os.Getenv("WEFT_MUTATION"))
	took, by := make([]uint64, len(mutations)), make([]string, len(mutations)) // after how many seeds, and by what
	t.Run("broken", func(t *testing.T) {
		for n, m := range mutations {
			if only.MatchString(m.rule) {
				t.Run(m.rule, func(t *testing.T) {
					t.Parallel() // in processes of their own
					took[n], by[n] = m.noticedAfter(t, binary, n)
				})
			}
		}
	})
	said := "broken rules were noticed after so many seeds:\n"
	for n, m := range mutations {
		if took[n] > 0 {
			said += fmt.Sprintf("%8d %s, by %s\n", took[n], m.rule, by[n])
		}
	}
	tell(t, "mutations", said)
	t.Run("whole", func(t *testing.T) {
		for seed := uint64(1); seed <= slices.Max(took); seed++ {
			for by, faults := range lives(t, seed, everything) {
				if len(faults) > 0 {
					t.Errorf("seed %d, %s, and no rule is broken: %s", seed, by, strings.Join(faults, "\n"))
				}
			}
		}
	})
}

// noticedAfter is how many seeds it takes until mutation n is noticed, and what shows it.
func (m mutation) noticedAfter(t *testing.T, binary string, n int) (seeds uint64, by string) {
	run := exec.CommandContext(t.Context(), binary, "-test.run", "^TestExactUntilItFails$", "-test.v")
	run.Env = append(os.Environ(), "WEFT_MUTANT="+strconv.Itoa(n), "WEFT_UNTIL="+m.found, "WEFT_KNOWN="+m.by)
	out, err := run.CombinedOutput()
	words := regexp.MustCompile(`(?m)^\s*\S+: (after (\d+) seeds by (chance|scene ".*?"): .*)$`).FindSubmatch(out)
	if err != nil || words == nil {
		t.Fatalf("nobody noticed: %v\n%s", err, out)
	}
	t.Logf("noticed %.300s", words[1])
	seeds, err = strconv.ParseUint(string(words[2]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seeds, string(words[3])
}

// TestExactUntilItFails is what the mutants run: for some seeds what noticed the broken rule
// before, then everything.
func TestExactUntilItFails(t *testing.T) {
	until, known := os.Getenv("WEFT_UNTIL"), os.Getenv("WEFT_KNOWN")
	if until == "" {
		t.Skip("for TestExactNoticesBrokenRules")
	}
	found, others := regexp.MustCompile(until), map[string]uint64{}
	for _, pass := range []struct {
		seeds uint64
		of    func(scene string) bool
	}{{mostKnown, func(scene string) bool { return scene == known }}, {mostSeeds, everything}} {
		for seed := uint64(1); seed <= pass.seeds; seed++ {
			for by, faults := range lives(t, seed, pass.of) {
				for _, fault := range faults {
					fault = strings.ReplaceAll(fault, "\n", " ")
					if found.MatchString(fault) {
						t.Logf("after %d seeds by %s: %s", seed, by, fault)
						return
					}
					others[fmt.Sprintf("%.160s", fault)] = seed
				}
			}
		}
	}
	t.Fatalf("not in %d seeds; other faults were, with their seeds, %v", mostSeeds, others)
}

func everything(string) bool { return true }

// lives are those of a seed with their faults: first by chance alone, then every scene; only
// those that are wanted, by the scene's name or byChance.
func lives(t *testing.T, seed uint64, wanted func(scene string) bool) iter.Seq2[string, []string] {
	t.Helper()
	return func(yield func(string, []string) bool) {
		more := !wanted(byChance) || yield("chance", simulate(t, seed, false).fault)
		for _, s := range scenes {
			more = more && (!wanted(s.name) || yield(fmt.Sprintf("scene %q", s.name), s.stagedBy(t, seed).fault))
		}
	}
}
