package e2e

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/netmap"
)

const (
	members = 3 // hosts 1 to 3 are one cluster for as long as the tests run

	// answerWithin is what a user waits at most for an answer (invariant 10).
	answerWithin = 5 * time.Second
	// healWithin is how soon after a fault everything is as it should be (invariant 8).
	healWithin = 10 * time.Second
	// spreadWithin bounds what takes several steps on several hosts: a network's
	// name is decided, then every agent makes a replica in its Docker.
	spreadWithin = 10 * time.Second
)

var (
	// spares are hosts without a plugin, three or a multiple: a test that borrows some installs what it needs. WEFT_SPARES
	// says how many, since a run of few tests is up sooner with three.
	spares = threes("WEFT_SPARES", 9)
	hosts  = members + spares + 1 // the last one is the stranger that attacks
)

// threes is the value of a variable of the environment, or another one where it has none.
func threes(variable string, otherwise int) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv(variable), strconv.Itoa(otherwise)))
	if err != nil || n < members || n%members != 0 {
		panic(fmt.Sprintf("%s=%s: want 3, 6 or another multiple of three", variable, os.Getenv(variable)))
	}
	return n
}

// rig is the lab that all tests of this program share.
type rig struct {
	lab    *lab.Lab
	plugin string           // directory, as `docker plugin create` wants it
	weft   string           // the binary
	spare  chan []*lab.Host // the hosts that are no members and that no test has, by threes

	places *places
}

var shared struct {
	once sync.Once
	dir  string // the lab's; empty when none was brought up
	rig  *rig
	err  error
}

// TestMain lets all parallel tests start: onMembers, onMembersAlone and lend have them wait
// for hosts and for their places.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "1000") // it exists
	code := m.Run()
	if code == 0 {
		if err := atLast(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := takeDown(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// long skips a test that takes minutes, or keeps both processors busy, beside which others are late.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("WEFT_LONG") == "" {
		t.Skip("takes minutes, or both processors: make test-long runs it (WEFT_LONG)")
	}
}

// up gives a test the shared lab, brought up by the first that asks.
func up(t *testing.T) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the lab")
	}
	if err := lab.Missing(lab.Config{Engine: engine()}); err != nil {
		if os.Getenv("WEFT_LAB_REQUIRED") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	shared.once.Do(func() { shared.rig, shared.err = bringUp() })
	if shared.err != nil {
		t.Fatalf("no lab: %v", shared.err)
	}
	return shared.rig
}

// engine is the machine's own Docker Engine, or the one in the directory that
// WEFT_ENGINE names. WEFT_DOCKER_ARGS has options of dockerd, such as --firewall-backend=nftables of 29.
func engine() lab.Engine {
	if dir := os.Getenv("WEFT_ENGINE"); dir != "" {
		return lab.EngineIn(dir)
	}
	return lab.Engine{}
}

func bringUp() (*rig, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	r := &rig{places: newPlaces()}
	var err error
	if r.plugin, err = pluginDir(ctx, "plugin"); err != nil {
		return nil, err
	}
	r.weft = filepath.Join(r.plugin, "rootfs", "weft")
	if shared.dir, err = os.MkdirTemp("", "weft-e2e-"); err != nil {
		return nil, err
	}
	log := func(line string) { fmt.Fprintln(os.Stderr, "lab:", line) }
	if r.lab, err = lab.Up(ctx, lab.Config{Hosts: hosts, Dir: shared.dir, Engine: engine(), DockerArgs: strings.Fields(os.Getenv("WEFT_DOCKER_ARGS")), Log: log}); err != nil {
		return nil, err
	}
	r.spare = make(chan []*lab.Host, spares/members)
	for some := range slices.Chunk(r.lab.Hosts()[members:members+spares], members) {
		r.spare <- some
	}
	began := time.Now()
	// At this level an agent writes a line about every call of Docker's.
	const verbose = "WEFT_LOG_LEVEL=debug"
	if err := r.lab.Host(1).InstallPlugin(ctx, r.plugin, verbose); err != nil {
		return nil, err
	}
	err = each(r.members()[1:], func(h *lab.Host) error {
		return h.InstallPlugin(ctx, r.plugin, verbose, "WEFT_JOIN="+r.others(h))
	})
	if err == nil {
		err = await(ctx, 30*time.Second, r.allMembers)
	}
	log(fmt.Sprintf("cluster of %d after %.1f s", members, time.Since(began).Seconds()))
	return r, err
}

// takeDown takes the lab down. After a failure it keeps the hosts' logs.
func takeDown(failed bool) error {
	if shared.rig == nil || shared.rig.lab == nil {
		return nil // what lab.Up had begun it has taken down itself
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if failed {
		fmt.Fprintln(os.Stderr, "the hosts' logs are in", shared.dir)
		return shared.rig.lab.DownKeepingLogs(ctx)
	}
	return shared.rig.lab.Down(ctx)
}

// pluginDir is build/plugin or build/nextlevel, made anew if a source is younger.
// WEFT_PLUGIN_DIR names another plugin, to try a released one.
func pluginDir(ctx context.Context, target string) (string, error) {
	if dir := os.Getenv("WEFT_PLUGIN_DIR"); dir != "" && target == "plugin" {
		return filepath.Abs(dir)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", target)
	built, err := os.Stat(filepath.Join(dir, "rootfs", "weft"))
	if err == nil {
		var stale bool
		if stale, err = youngerSources(root, built.ModTime()); err != nil {
			return "", err
		}
		if !stale {
			return dir, nil
		}
	}
	out, err := exec.CommandContext(ctx, "make", "-C", root, target).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make %s: %w: %s", target, err, out)
	}
	return dir, nil
}

// youngerSources reports whether something that the plugin is made of has changed.
func youngerSources(root string, than time.Time) (bool, error) {
	errFound := errors.New("found")
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			switch name {
			case ".git", "build", "e2e", "lab", "testdata":
				return filepath.SkipDir
			}
			return nil
		}
		part := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") || name == "config.json" || name == "go.mod"
		if info, err := d.Info(); err != nil || !part || !info.ModTime().After(than) {
			return err
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

func (r *rig) members() []*lab.Host { return r.lab.Hosts()[:members] }

// others are the addresses of the other members, as WEFT_JOIN wants them.
func (r *rig) others(than *lab.Host) string {
	var out []string
	for _, h := range r.members() {
		if h.Number() != than.Number() {
			out = append(out, h.Addr4().String())
		}
	}
	return strings.Join(out, ",")
}

// report asks a host's agent for its status, and leaves out what hosts have themselves on networks: most
// tests are about containers.
func (r *rig) report(ctx context.Context, h *lab.Host) (*api.Report, error) {
	out, err := r.wholeReport(ctx, h)
	if err != nil {
		return nil, err
	}
	withoutHosts(out)
	return out, nil
}

// withoutHosts leaves out of a report what hosts have themselves on networks.
func withoutHosts(r *api.Report) {
	for i, n := range r.Networks {
		r.Networks[i].Endpoints = slices.DeleteFunc(n.Endpoints, func(e api.Endpoint) bool {
			return e.ID == netmap.HostEndpoint(e.Host, n.ID)
		})
	}
}

// wholeReport asks a host's agent for its status.
func (r *rig) wholeReport(ctx context.Context, h *lab.Host) (*api.Report, error) {
	root, err := h.Root()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return api.At(root + api.SocketPath).Report(ctx)
}

// allMembers is nil when every member sees every member alive and nobody has a problem.
func (r *rig) allMembers(ctx context.Context) error {
	return each(r.members(), func(h *lab.Host) error {
		report, err := r.report(ctx, h)
		if err != nil {
			return err
		}
		alive := 0
		for _, seen := range report.Hosts {
			if seen.State == "alive" {
				alive++
			}
		}
		if report.State != "ready" || alive != members || report.Datapath.Error != "" || len(report.Problems) > 0 {
			return fmt.Errorf("%s is %s and sees %d hosts alive; datapath %q, problems %q", h.Name(), report.State, alive, report.Datapath.Error, report.Problems)
		}
		return nil
	})
}

// each does something on several hosts at once.
func each(hosts []*lab.Host, do func(*lab.Host) error) error {
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() { errs[i] = do(h) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// await repeats look until it returns nil or until within is over, and then returns its error. The
// pauses between the looks grow, because each look takes processor time from what it waits for.
func await(ctx context.Context, within time.Duration, look func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	var wrong error
	for {
		err := look(limited)
		if err == nil {
			return nil
		}
		if wrong == nil || limited.Err() == nil { // else it says only that the time is over
			wrong = err
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("still after %v: %w", within, wrong)
		case <-time.After(min(max(time.Since(began)/10, 50*time.Millisecond), 500*time.Millisecond)):
		}
	}
}

// eventually fails the test if await fails.
func eventually(t *testing.T, within time.Duration, look func(context.Context) error) {
	t.Helper()
	if err := await(t.Context(), within, look); err != nil {
		t.Fatal(err)
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
