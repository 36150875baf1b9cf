package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// runbook is a section of docs/operations.md that a test carries out on hosts of the lab.
type runbook struct {
	s      *scene
	title  string
	blocks []string
	hosts  map[string]*lab.Host // by the names in the document
	dir    string               // the working directory
}

// runbook reads a section. In it host-a, host-b and host-c are these hosts.
func (s *scene) runbook(title string, hosts ...*lab.Host) *runbook {
	s.t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	must(s.t, err)
	_, section, found := strings.Cut(string(text), "\n## "+title+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	r := &runbook{s: s, title: title, hosts: map[string]*lab.Host{}, dir: s.t.TempDir()}
	for i, h := range hosts {
		r.hosts["host-"+string(rune('a'+i))] = h
	}
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(section, -1) {
		r.blocks = append(r.blocks, block[1])
	}
	if !found || len(r.blocks) == 0 {
		s.t.Fatalf("docs/operations.md has no commands under %q", title)
	}
	return r
}

// next carries out the next block of commands. In them and in what they must show, old is
// replaced by its successor, pair by pair.
func (r *runbook) next(replace ...string) {
	r.s.t.Helper()
	if len(r.blocks) == 0 {
		r.s.t.Fatalf("the runbook %q is over", r.title)
	}
	block := r.blocks[0]
	r.blocks = r.blocks[1:]
	for _, order := range regexp.MustCompile(`(?m)^ *(host-[a-c])# (.*)\n((?: *[^# \n][^#\n]*\n)*)`).FindAllStringSubmatch(block, -1) {
		r.carryOut(r.hosts[order[1]], r.here(order[2], replace), strings.Split(strings.TrimSpace(r.here(order[3], replace)), "\n"))
		block = strings.Replace(block, order[0], "", 1)
	}
	if left := strings.TrimSpace(block); left != "" {
		r.s.t.Errorf("the runbook %q has lines that are no command and nothing that one shows:\n%s", r.title, left)
	}
}

// rest carries out the blocks that are left.
func (r *runbook) rest(replace ...string) {
	r.s.t.Helper()
	for len(r.blocks) > 0 {
		r.next(replace...)
	}
}

// here has names, addresses and paths of the lab in place of the document's.
func (r *runbook) here(text string, replace []string) string {
	replace = append(slices.Clone(replace), "weft-plugin", r.s.plugin)
	for name, h := range r.hosts {
		addr := "192.0.2." + string(name[len(name)-1]-'a'+'1')
		replace = append(replace, name, h.Name(), addr, h.Addr4().String())
	}
	return strings.NewReplacer(replace...).Replace(text)
}

// carryOut runs a command, which must work and show these lines. What only looks is
// repeated until it shows them.
func (r *runbook) carryOut(h *lab.Host, command string, lines []string) {
	r.s.t.Helper()
	within := answerWithin
	if !strings.HasPrefix(command, "weft status") {
		within = 0
	}
	must(r.s.t, await(r.s.t.Context(), within, func(context.Context) error {
		out, err := h.Exec(r.s.t.Context(), "sh", "-ec", fmt.Sprintf("PATH=%s:$PATH; cd %s; %s", filepath.Dir(r.s.weft), r.dir, command))
		r.s.t.Logf("%s# %s\n%s", h.Name(), command, out)
		return errors.Join(err, shows(command, out, lines))
	}))
}

// shows is nil if a command's output has these lines, blanks aside; … is any text.
func shows(command, out string, lines []string) error {
	var all strings.Builder
	for line := range strings.Lines(out) {
		all.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	for _, line := range lines {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.Join(strings.Fields(line), " ")), "…", ".*")
		if !regexp.MustCompile("(?m)^" + pattern + "$").MatchString(all.String()) {
			return fmt.Errorf("%s shows no %q:\n%s", command, line, out)
		}
	}
	return nil
}

// TestIntegrationRunbooks of docs/operations.md, word by word, on one cluster under traffic.
// TestIntegrationTwoReleases carries out the one about upgrades, TestIntegrationRecoverAndLeave
// the one about recovery.
func TestIntegrationRunbooks(t *testing.T) {
	s := onSpares(t)
	a, b, c := s.trio()
	name := s.network(a, "overlay")
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	steady := func() {
		t.Helper()
		eventually(t, 3*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, a, b, c) })
	}

	s.runbook("Back up", a, b, c).rest()

	old := s.restoreDisk(c)
	s.runbook("A disk was restored from an older copy", a, b, c).rest("1a2b3c4d", old)
	steady()
	s.matrix(boxes...)

	must(t, b.PowerOff(t.Context()))
	t.Cleanup(func() { _ = s.switchOn(context.WithoutCancel(t.Context()), []*lab.Host{b}) })
	replace := s.runbook("Replace a host", a, b, c)
	replace.next()
	must(t, errors.Join(os.RemoveAll(b.Disk()), os.MkdirAll(b.Disk(), 0o755)))
	must(t, b.PowerOn(t.Context()))
	replace.next()
	steady()
	s.everywhere(name)
	boxes[1] = s.run(b, name, "again")
	s.matrix(boxes...)

	s.docker(c, "rm", "-f", boxes[2].name)
	s.runbook("Remove a host", a, b, c).rest()
	eventually(t, 2*healWithin, func(ctx context.Context) error { return s.keepTogether(ctx, a, b) })
	s.matrix(boxes[:2]...)
	s.hosts = []*lab.Host{a, b}
}

// restoreDisk puts an older copy of a host's state back, and answers the id of the host.
func (s *scene) restoreDisk(h *lab.Host) (id string) {
	s.t.Helper()
	report, err := s.report(s.t.Context(), h)
	must(s.t, err)
	state := filepath.Join(h.Disk(), "weft")
	s.docker(h, "plugin", "disable", "-f", lab.PluginName)
	must(s.t, os.CopyFS(state+"-copy", os.DirFS(state)))
	s.docker(h, "plugin", "enable", lab.PluginName)
	eventually(s.t, healWithin, func(ctx context.Context) error { return s.ready(ctx, members, h) })
	s.docker(h, "plugin", "disable", "-f", lab.PluginName)
	must(s.t, errors.Join(os.RemoveAll(state), os.Rename(state+"-copy", state)))
	s.docker(h, "plugin", "enable", lab.PluginName)
	return report.Self.Short()
}
