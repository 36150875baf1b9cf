package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/attack"
	"github.com/weftnet/weft/lab/probe"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Bounds of an agent under attack.
const (
	mostMemory     = 400 << 20 // resident bytes; some 25 MiB without an attack
	mostGoroutines = 2000
	attackLasts    = 2 * time.Second // each; WEFT_ATTACK_LASTS changes it
)

// TestIntegrationAStrangerAttacks: a host that is no member runs all attacks of lab/attack against
// one agent of a cluster, while containers send packets. No agent grows without bound or gives up
// its identity or its ledger, and no packet is lost. With WEFT_ATTACK_REPORT it only reports, to
// compare builds.
func TestIntegrationAStrangerAttacks(t *testing.T) {
	s := onSpares(t)
	a, b, c := s.trio()
	name := s.network(a, "calm")
	from, to := s.run(b, name, "from"), s.run(a, name, "to")
	s.reach(from, to.addr)
	v := s.victim(a, b, c)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tMiB BEFORE\tPEAK\tRUNTIME\tAFTER\tGOROUTINES BEFORE\tPEAK\tAFTER\tPINGS LOST\tLOG LINES\tTHEN")
	done := s.loud()
	for _, what := range slices.Concat(attack.Floods(), attack.Raft(), attack.Facts(), attack.Commands()) {
		fmt.Fprintln(w, v.suffer(what, a, from, to.addr))
	}
	done()
	v.unchanged()
	_ = w.Flush()
	t.Logf("\n%s", table.String())
}

// must1 passes a value on, or fails the test.
func must1[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// agent is the state of an agent and its use of the machine at one moment.
type agent struct {
	pid        int
	self       netmap.HostID
	cluster    netmap.ClusterID
	underlay   netip.AddrPort
	memory     int // resident bytes
	runtime    int // bytes that Go's runtime has, in use or not
	goroutines int
	problems   []string
	role       string // towards the ledger
}

// victim is a cluster that is attacked.
type victim struct {
	*scene
	agents map[int]agent // before the first attack, by host
}

// victim looks at a cluster before it is attacked.
func (s *scene) victim(all ...*lab.Host) *victim {
	s.t.Helper()
	v := &victim{scene: s, agents: map[int]agent{}}
	for _, h := range all {
		v.agents[h.Number()] = must1(v.look(s.t.Context(), h))(s.t)
	}
	return v
}

// target is a host as a stranger on the lab's last host, which has no agent, knows it.
func (v *victim) target(h *lab.Host) attack.Target {
	at, stranger := v.agents[h.Number()], v.lab.Host(hosts)
	t := attack.Target{Addr: at.underlay, Host: at.self, Cluster: at.cluster, Dial: stranger.Dial, From: netip.AddrPortFrom(stranger.Addr4(), at.underlay.Port())}
	for n, other := range v.agents {
		if n != h.Number() {
			t.Others = append(t.Others, other.self)
		}
	}
	return t
}

func (v *victim) look(ctx context.Context, h *lab.Host) (agent, error) {
	report, err := v.report(ctx, h)
	if err != nil {
		return agent{}, err
	}
	out := agent{self: report.Self, cluster: report.Cluster, goroutines: report.Process.Goroutines, problems: report.Problems, role: report.Ledger.Role}
	for _, seen := range report.Hosts {
		if seen.ID == report.Self {
			out.underlay = seen.Underlay
		}
	}
	if out.pid, err = h.Agent(ctx); err == nil {
		out.memory, err = resident(h, out.pid)
	}
	return out, err
}

// resident is how much memory a process of a host has, in bytes.
func resident(h *lab.Host, pid int) (int, error) {
	root, err := h.Root()
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(fmt.Sprintf("%s/proc/%d/status", root, pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	line, _, _ := strings.Cut(after, "\n")
	kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(line, "kB")))
	return kb << 10, err
}

// suffer lets a stranger attack a host and returns a line about it.
func (v *victim) suffer(what attack.Attack, h *lab.Host, from box, to netip.Addr) string {
	v.t.Helper()
	before := v.agents[h.Number()]
	if now, err := v.look(v.t.Context(), h); err == nil {
		before.memory, before.goroutines = now.memory, now.goroutines
	}
	lines := logLines(h)
	var all sync.WaitGroup
	var peak agent
	var lost string
	ctx, cancel := context.WithTimeout(v.t.Context(), lasts())
	defer cancel()
	all.Go(func() { peak = v.watch(ctx, h, before.pid) })
	all.Go(func() { lost = pings(v.t.Context(), from, to) })
	if err := what.Run(ctx, v.target(h)); err != nil {
		v.wrong("%s: %v", what.Name, err)
	}
	all.Wait()
	said := logLines(h) - lines
	then := v.works(h, from.host, what.Name)
	after, _ := v.look(v.t.Context(), h)
	if max(peak.memory, peak.runtime) > mostMemory || peak.goroutines > mostGoroutines || lost != "0" || said > 200 {
		v.wrong("%s: %d MiB, %d goroutines, pings lost: %s, %d lines in the log", what.Name, max(peak.memory, peak.runtime)>>20, peak.goroutines, lost, said)
	}
	return fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%s", what.Name, before.memory>>20, peak.memory>>20, peak.runtime>>20, after.memory>>20,
		before.goroutines, peak.goroutines, after.goroutines, lost, said, then)
}

// lasts is how long each attack takes.
func lasts() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("WEFT_ATTACK_LASTS")); err == nil {
		return d
	}
	return attackLasts
}

// reportsOnly is for looking at a build that is known not to hold.
func reportsOnly() bool { return os.Getenv("WEFT_ATTACK_REPORT") != "" }

// wrong fails the test, unless it only reports.
func (v *victim) wrong(format string, args ...any) {
	v.t.Helper()
	if reportsOnly() {
		v.t.Logf(format, args...)
		return
	}
	v.t.Errorf(format, args...)
}

// watch looks at an agent until ctx ends and returns the most that it takes.
func (v *victim) watch(ctx context.Context, h *lab.Host, pid int) (most agent) {
	for ctx.Err() == nil {
		if report, err := v.report(ctx, h); err == nil {
			most.goroutines = max(most.goroutines, report.Process.Goroutines)
			most.runtime = max(most.runtime, int(report.Process.Memory))
		}
		if n, err := resident(h, pid); err == nil {
			most.memory = max(most.memory, n)
		}
		turn.Sleep(ctx, 20*time.Millisecond)
	}
	return most
}

// pings reports how many packets between two containers were lost until ctx ended.
func pings(ctx context.Context, from box, to netip.Addr) string {
	out, err := from.exec(ctx, "probe", "stream", "-every", "10ms", "-for", lasts().String(), to.String())
	var loss probe.Loss
	if err == nil {
		err = json.Unmarshal([]byte(out), &loss)
	}
	if err != nil || loss.Sent == 0 {
		return fmt.Sprintf("unknown (%v)", err)
	}
	return strconv.Itoa(loss.Lost)
}

// works reports whether a host's agent still serves, with the time that it took.
func (v *victim) works(h, other *lab.Host, what string) string {
	ctx, cancel := context.WithTimeout(v.t.Context(), 2*answerWithin)
	defer cancel()
	began := time.Now()
	_, err := h.Docker(ctx, "run", "--rm", "--net", v.name("calm"), lab.BusyBoxImage, "true")
	took := time.Since(began)
	for _, on := range []*lab.Host{h, other} {
		text, failed := on.Exec(ctx, v.weft, "status")
		if err == nil {
			err = failed
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' }) {
			err = fmt.Errorf("status has control characters: %q", text)
		}
	}
	if err != nil {
		v.wrong("%s: afterwards: %v", what, err)
		return fmt.Sprintf("%.60s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return fmt.Sprintf("docker run in %.1f s", took.Seconds())
}

// unchanged waits until every agent has the identity and the role that it had before, and no problem.
func (v *victim) unchanged() {
	v.t.Helper()
	err := await(v.t.Context(), 2*healWithin, func(ctx context.Context) error {
		return each(v.members(), func(h *lab.Host) error {
			now, err := v.look(ctx, h)
			if err != nil {
				return err
			}
			was := v.agents[h.Number()]
			if now.pid != was.pid || now.self != was.self || now.cluster != was.cluster {
				return fmt.Errorf("%s: process %d is host %s of cluster %s, it was %d, %s, %s", h.Name(), now.pid, now.self, now.cluster, was.pid, was.self, was.cluster)
			}
			now.problems = slices.DeleteFunc(now.problems, func(p string) bool { // they are refused, and told of
				return strings.Contains(p, "belongs to cluster") || strings.Contains(p, "more were refused") || strings.Contains(p, "is refused: ")
			})
			if now.role == "none" {
				return fmt.Errorf("%s keeps the ledger no more", h.Name())
			}
			if len(now.problems) > 0 {
				return fmt.Errorf("%s: %d problems: %.200q", h.Name(), len(now.problems), now.problems)
			}
			return nil
		})
	})
	if err != nil {
		v.wrong("in the end: %v", err)
	}
}

// logLines counts what a host's engine and agent have logged.
func logLines(h *lab.Host) int {
	text, err := os.ReadFile(h.LogDir() + "/dockerd.log")
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}
