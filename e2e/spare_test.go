package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/store"
)

// lend gives a test some spare hosts, at most three, without any of Weft's files, and wipes them when
// the test ends. It waits until three are free and the test has its place.
func (s *scene) lend(n int) []*lab.Host {
	some := <-s.spare
	s.work()
	out := some[:n]
	s.t.Cleanup(func() {
		defer func() { s.spare <- some }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 4*time.Minute) // what is left over fails the next test
		defer cancel()
		if err := each(out, func(h *lab.Host) error { return s.wipe(ctx, h) }); err != nil {
			s.t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, h := range out { // nothing is left for clear, and the next test may take them down
			delete(s.boxes, h.Number())
			delete(s.networks, h.Number())
		}
	})
	return out
}

// borrow lends two hosts.
func (s *scene) borrow() (a, b *lab.Host) {
	lent := s.lend(2)
	return lent[0], lent[1]
}

// trio borrows three hosts as a cluster of their own, with these settings. From then on
// they are the test's members. It returns when all keep the ledger.
func (s *scene) trio(settings ...string) (a, b, c *lab.Host) {
	s.t.Helper()
	s.found(s.lend(members), settings...)
	return s.hosts[0], s.hosts[1], s.hosts[2]
}

func (s *scene) found(lent []*lab.Host, settings ...string) {
	s.t.Helper()
	s.hosts = lent
	must(s.t, lent[0].InstallPlugin(s.t.Context(), s.plugin, settings...))
	must(s.t, each(lent[1:], func(h *lab.Host) error {
		return h.InstallPlugin(s.t.Context(), s.plugin, append(slices.Clone(settings), "WEFT_JOIN="+addrs(lent))...)
	}))
	eventually(s.t, 3*healWithin, func(ctx context.Context) error { return s.ready(ctx, members, lent...) })
	s.leader()
}

// addrs are hosts as WEFT_JOIN wants them; a host ignores itself.
func addrs(hosts []*lab.Host) string {
	var out []string
	for _, h := range hosts {
		out = append(out, h.Addr4().String())
	}
	return strings.Join(out, ",")
}

// spares borrows the spare hosts as a cluster of their own, with these settings.
func (s *scene) spares(settings ...string) (a, b *lab.Host) {
	s.t.Helper()
	a, b = s.borrow()
	must(s.t, a.InstallPlugin(s.t.Context(), s.plugin, settings...))
	must(s.t, b.InstallPlugin(s.t.Context(), s.plugin, append(settings, "WEFT_JOIN="+a.Addr4().String())...))
	eventually(s.t, spreadWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
	return a, b
}

// ready is nil when hosts are members of a cluster with so many.
func (s *scene) ready(ctx context.Context, count int, hosts ...*lab.Host) error {
	return each(hosts, func(h *lab.Host) error {
		report, err := s.report(ctx, h)
		if err == nil && (report.State != "ready" || len(report.Hosts) != count) {
			err = fmt.Errorf("%s is %s with %d hosts, want %d; problems %q", h.Name(), report.State, len(report.Hosts), count, report.Problems)
		}
		return err
	})
}

// wipe takes everything of ours off a host, as its operator does.
func (s *scene) wipe(ctx context.Context, h *lab.Host) error {
	if err := removeAll(ctx, h, "/containers/json?all=1", "/containers/%s?force=1&v=1"); err != nil {
		return err
	}
	if err := alone(ctx, h); err != nil {
		return err
	}
	remove := func(ctx context.Context) error {
		return removeAll(ctx, h, `/networks?filters={"driver":["`+lab.PluginName+`"]}`, "/networks/%s")
	}
	if await(ctx, 2*healWithin, remove) != nil { // Docker can lose count of a network's endpoints: README, Troubleshooting
		if err := errors.Join(h.RestartDocker(ctx), await(ctx, 2*healWithin, remove)); err != nil {
			return err
		}
	}
	if err := removeAll(ctx, h, "/plugins", "/plugins/%s?force=1"); err != nil {
		return err
	}
	_, err := h.Exec(ctx, "sh", "-c", "! mountpoint -q /var/lib/weft || umount /var/lib/weft; exec "+s.weft+" cleanup") // see smallDisk
	return err
}

// removeAll removes from a host's Docker all that a path of its API lists.
func removeAll(ctx context.Context, h *lab.Host, list, each string) error {
	all, err := inspect[[]struct{ ID string }](ctx, h, list)
	for _, one := range all {
		_, failed := request(ctx, h, http.MethodDelete, fmt.Sprintf(each, one.ID), "")
		err = errors.Join(err, failed)
	}
	return err
}

// alone starts the plugin anew, if there is one, without replicas: else those of other hosts' networks come back here.
func alone(ctx context.Context, h *lab.Host) error {
	const plugin = "/plugins/" + lab.PluginName
	got, err := inspect[struct{ Enabled bool }](ctx, h, plugin+"/json")
	if err != nil {
		return nil //nolint:nilerr // there is none
	}
	if got.Enabled {
		if _, err := request(ctx, h, http.MethodPost, plugin+"/disable?force=1", ""); err != nil {
			return err
		}
	}
	if _, err := request(ctx, h, http.MethodPost, plugin+"/set", `["WEFT_REPLICATE=false"]`); err != nil {
		return err
	}
	_, _ = request(ctx, h, http.MethodPost, plugin+"/enable?timeout=0", "") // a test may have left it with wrong settings
	return nil
}

// TestIntegrationAloneWithinASecond: on a single host the first network is there a second
// after the plugin was enabled.
func TestIntegrationAloneWithinASecond(t *testing.T) {
	s := onSpares(t)
	a, _ := s.borrow()
	quiet := s.loud() // a second is the machine's, not half of one processor's
	must(t, a.InstallPlugin(t.Context(), s.plugin))
	began := time.Now()
	s.docker(a, s.create(a, "alone")...)
	took := time.Since(began)
	quiet()
	t.Logf("the first network was there %.2f s after docker plugin enable", took.Seconds())
	if took > 2*time.Second {
		t.Errorf("the first network took %v after docker plugin enable, want a second", took)
	}
	one := s.run(a, s.name("alone"), "one")
	s.matrix(one, s.run(a, s.name("alone"), "two"))
}

// TestIntegrationWrongSettings: Docker and the log say what is wrong with a setting. Docker takes some
// 14 s to give up a plugin that ends, so there are only a few here; the tests of package settings
// have the others.
func TestIntegrationWrongSettings(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	wrong := map[*lab.Host]struct {
		setting string
		words   []string
	}{
		a: {"WEFT_PORT=99999", []string{"WEFT_PORT=99999", "1-65535"}},
		b: {"WEFT_ADVERTISE=wlan77", []string{"WEFT_ADVERTISE", "wlan77"}},
	}
	must(t, each([]*lab.Host{a, b}, func(h *lab.Host) error {
		err := h.InstallPlugin(t.Context(), s.plugin, wrong[h].setting)
		if err == nil {
			return fmt.Errorf("the plugin was enabled with %s", wrong[h].setting)
		}
		for _, word := range wrong[h].words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: neither Docker nor its log says %q:\n%v", wrong[h].setting, word, err)
			}
		}
		return nil
	}))
	if _, err := os.Stat(filepath.Join(a.Disk(), "weft", store.FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a start with a wrong setting left something on disk: %v", err)
	}
	if _, err := a.Docker(t.Context(), "plugin", "set", lab.PluginName, "WEFT_COLOUR=blue"); err == nil {
		t.Error("an unknown setting was accepted")
	}
	// With the right value it starts.
	s.docker(a, "plugin", "set", lab.PluginName, "WEFT_PORT=7950")
	s.docker(a, "plugin", "enable", lab.PluginName)
}

// TestIntegrationTwoClustersRefuseEachOther: an agent that is in a cluster does not join another one,
// and says what its operator can do.
func TestIntegrationTwoClustersRefuseEachOther(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	must(t, a.InstallPlugin(t.Context(), s.plugin))
	must(t, b.InstallPlugin(t.Context(), s.plugin))
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.ready(ctx, 1, a, b) })
	var ids []string
	for _, h := range []*lab.Host{a, b} {
		report, err := s.report(t.Context(), h)
		must(t, err)
		ids = append(ids, report.Cluster.String())
	}
	must(t, b.InstallPlugin(t.Context(), s.plugin, "WEFT_JOIN="+a.Addr4().String()))
	eventually(t, spreadWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, b)
		if err != nil {
			return err
		}
		said := strings.Join(report.Problems, "\n")
		for _, id := range ids {
			if !strings.Contains(said, id) {
				return fmt.Errorf("cluster %s is not named in %q", id, said)
			}
		}
		return nil
	})
	// It still works in its own cluster, and the other cluster did not change.
	s.docker(b, s.create(b, "own")...)
	must(t, s.ready(t.Context(), 1, a))
	// The operator does what it says.
	must(t, s.wipe(t.Context(), b))
	must(t, b.InstallPlugin(t.Context(), s.plugin, "WEFT_JOIN="+a.Addr4().String()))
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
}

func TestIntegrationCleanupLeavesNothing(t *testing.T) {
	s := onSpares(t)
	a, _ := s.borrow()
	before := s.traces(a)
	must(t, a.InstallPlugin(t.Context(), s.plugin))
	s.docker(a, s.create(a, "kept")...)
	s.docker(a, s.create(a, "lost")...)
	s.matrix(s.run(a, s.name("kept"), "one"), s.run(a, s.name("kept"), "two"))

	cleanup := func(args ...string) (string, error) {
		return a.Exec(t.Context(), append([]string{s.weft, "cleanup"}, args...)...)
	}
	refused := func(word string) {
		t.Helper()
		if out, err := cleanup(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("weft cleanup must be refused with %q: %s %v", word, out, err)
		}
		if err := s.running(a, s.name("one")); err != nil {
			t.Error(err)
		}
	}
	refused("the agent runs")
	s.docker(a, "plugin", "disable", "-f", lab.PluginName)
	refused(s.name("kept"))
	s.docker(a, "plugin", "enable", lab.PluginName)
	s.docker(a, "rm", "-f", s.name("one"), s.name("two"))
	s.docker(a, "network", "rm", s.name("kept"), s.name("lost"))
	s.docker(a, "plugin", "disable", lab.PluginName)
	s.docker(a, "plugin", "rm", lab.PluginName)

	would, err := cleanup("--dry-run")
	if err != nil || !strings.Contains(would, "/var/lib/weft") || !strings.Contains(would, "would remove") {
		t.Errorf("a dry run says %q (%v)", would, err)
	}
	did, err := cleanup()
	if diff := cmp.Diff(lastWords(would), lastWords(did)); err != nil || diff != "" {
		t.Errorf("cleanup did something else than the dry run said (-said +did): %s %v", diff, err)
	}
	if after := s.traces(a); after != before {
		t.Errorf("cleanup left\n%s\nbefore Weft there was\n%s", after, before)
	}
	if out, err := cleanup(); err != nil || !strings.Contains(out, "nothing of Weft is left") {
		t.Errorf("cleanup where nothing is: %q, %v", out, err)
	}
	if _, err := a.Exec(t.Context(), s.weft, "status"); err == nil || !strings.Contains(err.Error(), "no agent answers") {
		t.Errorf("weft status where no agent is: %v", err)
	}
	s.mu.Lock()
	s.boxes, s.networks = map[int][]string{}, map[int][]string{}
	s.mu.Unlock()
}

// TestIntegrationCleanupUnderAnotherName: weft cleanup finds a plugin that was created under another
// name, when it is disabled and when it was removed.
func TestIntegrationCleanupUnderAnotherName(t *testing.T) {
	s := onSpares(t)
	a, _ := s.borrow()
	const mesh = "acme/mesh:2"
	network := s.name("named")
	enable := func() {
		t.Helper()
		s.docker(a, "plugin", "create", mesh, s.plugin)
		s.docker(a, "plugin", "enable", mesh)
	}
	enable()
	s.docker(a, "network", "create", "-d", mesh, "--ipam-driver", mesh, network)
	for _, gone := range [][]string{{"disable", "-f", mesh}, {"rm", "-f", mesh}} {
		s.docker(a, append([]string{"plugin"}, gone...)...)
		s.weftRefuses(a, []string{network, mesh}, "cleanup")
	}
	enable()
	s.docker(a, "network", "rm", network)
	s.docker(a, "plugin", "rm", "-f", mesh)
	s.weftDoes(a, []string{"removed /var/lib/weft"}, "cleanup")
}

// TestIntegrationDisabledPluginHoldsDockerUp: with the plugin disabled, Docker waits as long as the
// README says, 15 s for each call. Nothing of that is left when the plugin is enabled again.
func TestIntegrationDisabledPluginHoldsDockerUp(t *testing.T) {
	long(t)
	s := onSpares(t)
	a, _ := s.borrow()
	must(t, a.InstallPlugin(t.Context(), s.plugin))
	s.docker(a, s.create(a, "held")...)
	s.docker(a, s.create(a, "plain")...)
	s.docker(a, s.create(a, "six", "--ipv6", "--subnet", "10.64.44.0/24", "--subnet", "fd64:44::/64", "--aux-address", "router=10.64.44.9")...)
	s.run(a, s.name("held"), "old")
	s.docker(a, "plugin", "disable", "-f", lab.PluginName)
	var all sync.WaitGroup
	takes := func(calls int, fails bool, args ...string) {
		all.Go(func() {
			began := time.Now()
			_, err := a.Docker(t.Context(), args...)
			d, want := time.Since(began), time.Duration(calls)*15*time.Second
			if fails != (err != nil) || d < want-time.Second || d > want+10*time.Second {
				t.Errorf("docker %q ended after %v with %v, want %v", args, d, err, want)
			}
		})
	}
	takes(1, true, s.create(a, "late")...)
	takes(3, false, "rm", "-f", s.name("old"))
	takes(3, false, "network", "rm", s.name("plain"))
	takes(6, false, "network", "rm", s.name("six")) // IPv6 is two more, an --aux-address one
	all.Wait()
	s.docker(a, "plugin", "enable", lab.PluginName)
	s.matrix(s.run(a, s.name("held"), "one"), s.run(a, s.name("held"), "two"))
	s.docker(a, "rm", "-f", s.name("one"), s.name("two"))
	s.docker(a, "network", "rm", s.name("held"))
}

// lastWords of lines are what cleanup removed, sorted.
func lastWords(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		out = append(out, words[len(words)-1])
	}
	slices.Sort(out)
	return out
}

// running is nil when a container runs.
func (s *scene) running(h *lab.Host, name string) error {
	out, err := h.Docker(s.t.Context(), "inspect", "-f", "{{.State.Running}}", name)
	if err == nil && out != "true" {
		err = fmt.Errorf("%s does not run any more", name)
	}
	return err
}

// traces lists what Weft may leave on a host: files, mounts, interfaces, network namespaces and
// processes.
func (s *scene) traces(h *lab.Host) string {
	s.t.Helper()
	out, err := h.Exec(s.t.Context(), "sh", "-c", `
		find /var/lib/weft /run/weft /run/docker/plugins/weft* ! -type d 2>/dev/null
		grep -i weft /proc/mounts
		ip -br link | grep -v -e docker -e veth | cut -d' ' -f1
		ip route | grep -v docker
		nft list ruleset | grep -i weft
		grep -l weft /proc/[0-9]*/comm 2>/dev/null
		lsns -n -t net -o TYPE 2>/dev/null | wc -l
		true`)
	must(s.t, err)
	return out
}
