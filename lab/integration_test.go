package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/labtest"
	"github.com/weftnet/weft/lab/probe"
)

// traces lists what names a state directory anywhere on the machine: mounts in any mount
// namespace and command lines.
func traces(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/proc/[0-9]*/mountinfo", "/proc/[0-9]*/cmdline"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), dir) {
				found = append(found, file)
			}
		}
	}
	return found
}

// links are the interfaces of the machine's own network namespace.
func links(t *testing.T) []string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, link := range all {
		names = append(names, link.Name)
	}
	return names
}

func TestIntegrationDownLeavesNothing(t *testing.T) {
	labtest.Need(t, lab.Config{})
	before := links(t)
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "a lab's dir")
	l, err := lab.Up(ctx, lab.Config{Hosts: 2, Dir: dir, Log: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range l.Hosts() {
		must(t)(h.Docker(ctx, "run", "-d", "--restart", "always", lab.WebImage))
	}
	if diff := cmp.Diff(before, links(t)); diff != "" {
		t.Errorf("the lab changed the machine's interfaces (-before +up):\n%s", diff)
	}
	if len(traces(t, dir)) == 0 {
		t.Error("no process has a trace of the lab, so this test would not find one left behind")
	}
	var r lab.Record
	b, err := os.ReadFile(filepath.Join(dir, "record.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := l.Down(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("down after %.1f s", time.Since(began).Seconds())
	if found := traces(t, dir); len(found) > 0 {
		t.Errorf("traces of the lab are left: %s", found)
	}
	if len(r.Cgroups) == 0 {
		t.Error("the record has no cgroups")
	}
	for _, left := range append(r.Cgroups, dir) {
		if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
	if diff := cmp.Diff(before, links(t)); diff != "" {
		t.Errorf("the machine's interfaces changed (-before +after):\n%s", diff)
	}
	if err := l.Down(ctx); err != nil {
		t.Errorf("taking it down twice: %v", err)
	}
}

func TestIntegrationFailedUpIsTakenDown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	c := lab.Config{Hosts: 1, Dir: dir, DockerArgs: []string{"--no-such-option"}}
	labtest.Need(t, c)
	_, err := lab.Up(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-option") {
		t.Errorf("a dockerd that does not start gives: %v", err)
	}
	if found := traces(t, dir); len(found) > 0 {
		t.Errorf("traces of the lab are left: %s", found)
	}
	if _, err := os.Stat(filepath.Join(dir, "host1", "log", "dockerd.log")); err != nil {
		t.Errorf("the log was not kept: %v", err)
	}
}

func TestIntegrationSwarmAndRegistry(t *testing.T) {
	l := labtest.Up(t, lab.Config{Hosts: 2})
	ctx, one, two := t.Context(), l.Host(1), l.Host(2)
	for range 2 {
		if err := l.JoinSwarm(ctx); err != nil {
			t.Fatal(err)
		}
	}
	must(t)(one.Docker(ctx, "network", "create", "-d", "overlay", "--attachable", "compare"))
	must(t)(two.Docker(ctx, "run", "-d", "--name", "server", "--network", "compare", lab.BusyBoxImage, "probe", "serve"))
	addr := must(t)(two.Docker(ctx, "inspect", "--format", "{{.NetworkSettings.Networks.compare.IPAddress}}", "server"))
	var row []probe.Reach
	out := must(t)(one.Docker(ctx, "run", "--rm", "--network", "compare", lab.BusyBoxImage, "probe", "ping", addr))
	if err := json.Unmarshal([]byte(out), &row); err != nil || len(row) != 1 || row[0].Received == 0 {
		t.Errorf("the swarm's overlay carried %s (%v)", out, err)
	}
	must(t)(two.Docker(ctx, "rm", "-f", "server"))
	if err := l.LeaveSwarm(ctx); err != nil {
		t.Error(err)
	}

	registry, err := one.StartRegistry(ctx)
	if err != nil {
		t.Fatal(err)
	}
	image := registry + "/busybox:copy"
	must(t)(one.Docker(ctx, "tag", lab.BusyBoxImage, image))
	must(t)(one.Docker(ctx, "push", "--quiet", image))
	must(t)(one.Docker(ctx, "rmi", image))
	must(t)(one.Docker(ctx, "pull", "--quiet", image))
}

func must(t *testing.T) func(string, error) string {
	return func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func reaches(ctx context.Context, from *lab.Host, to string) bool {
	_, err := from.Exec(ctx, "busybox", "ping", "-c", "1", "-W", "1", to)
	return err == nil
}

// wantReach checks that one host answers another's pings, IPv4 and IPv6, or does not.
func wantReach(t *testing.T, from, to *lab.Host, want bool) {
	t.Helper()
	for _, addr := range []string{to.Addr4().String(), to.Addr6().String()} {
		if got := reaches(t.Context(), from, addr); got != want {
			t.Errorf("%s reaches %s: %v, want %v", from.Name(), addr, got, want)
		}
	}
}
