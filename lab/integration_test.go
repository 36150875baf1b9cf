package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
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
	if err := lab.Missing(lab.Config{}); err != nil {
		t.Skip(err)
	}
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
	if err := lab.Missing(c); err != nil {
		t.Skip(err)
	}
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

func TestIntegrationTwoHosts(t *testing.T) {
	began := time.Now()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	t.Logf("two hosts up after %.1f s", time.Since(began).Seconds())
	one, two := l.Host(1), l.Host(2)
	ctx := t.Context()

	t.Run("hosts look like hosts", func(t *testing.T) {
		for _, h := range l.Hosts() {
			if got := must(t)(h.Exec(ctx, "hostname")); got != h.Name() {
				t.Errorf("hostname is %q, want %q", got, h.Name())
			}
			route := must(t)(h.Exec(ctx, "ip", "route", "get", "192.0.2.1"))
			if !strings.Contains(route, "src "+h.Addr4().String()) {
				t.Errorf("%s: the default route's source is not its address: %s", h.Name(), route)
			}
			info := must(t)(h.Docker(ctx, "info", "--format", "{{.Name}} {{.DockerRootDir}}"))
			if want := h.Name() + " /var/lib/docker"; info != want {
				t.Errorf("docker info says %q, want %q", info, want)
			}
		}
		if a, b := must(t)(one.Docker(ctx, "info", "--format", "{{.ID}}")), must(t)(two.Docker(ctx, "info", "--format", "{{.ID}}")); a == b {
			t.Errorf("both engines have the id %s", a)
		}
	})

	t.Run("containers", func(t *testing.T) {
		for _, h := range l.Hosts() {
			if got := must(t)(h.Docker(ctx, "run", "--rm", lab.BusyBoxImage, "echo", "works")); got != "works" {
				t.Errorf("a container on %s said %q", h.Name(), got)
			}
		}
		must(t)(two.Docker(ctx, "run", "-d", "--name", "web", "-p", "8080:80", "--hostname", "page-of-web", lab.WebImage))
		client := http.Client{Transport: &http.Transport{DialContext: one.Dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
		resp, err := client.Get(fmt.Sprintf("http://%s:8080/", two.Addr4()))
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(page) != "page-of-web\n" {
			t.Errorf("the page is %q, %v", page, err)
		}
		must(t)(two.Docker(ctx, "rm", "-f", "web"))
	})

	t.Run("cut and heal", func(t *testing.T) { cutAndHeal(t, l) })

	t.Run("docker stops, is killed and starts", func(t *testing.T) {
		must(t)(one.Docker(ctx, "run", "-d", "--name", "stays", "--restart", "always", lab.WebImage))
		pid := func() string {
			return must(t)(one.Docker(ctx, "inspect", "--format", "{{.State.Pid}}", "stays"))
		}
		before := pid()
		if err := one.RestartDocker(ctx, "--live-restore"); err != nil {
			t.Fatal(err)
		}
		restarted := pid()
		if restarted == before || restarted == "0" {
			t.Errorf("the container's process is %s, before the restart it was %s", restarted, before)
		}
		if err := one.KillDocker(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Docker(ctx, "ps"); err == nil {
			t.Error("docker answers after it was killed")
		}
		if err := one.RestartDocker(ctx); err != nil {
			t.Fatal(err)
		}
		if live := must(t)(one.Docker(ctx, "info", "--format", "{{.LiveRestoreEnabled}}")); live != "true" {
			t.Errorf("after a restart without arguments live restore is %s: the earlier ones were lost", live)
		}
		if got := pid(); got != restarted {
			t.Errorf("the container's process is %s, with live restore it should still be %s", got, restarted)
		}
	})

	t.Run("a host loses power", func(t *testing.T) {
		if err := one.PowerOff(ctx); err != nil {
			t.Fatal(err)
		}
		if reaches(ctx, two, one.Addr4().String()) {
			t.Error("a host that is off answers")
		}
		if _, err := one.Exec(ctx, "true"); err == nil || !strings.Contains(err.Error(), "switched off") {
			t.Errorf("running a program in it said: %v", err)
		}
		if err := one.PowerOn(ctx); err != nil {
			t.Fatal(err)
		}
		wantReach(t, two, one, true)
		if got := must(t)(one.Docker(ctx, "inspect", "--format", "{{.State.Running}}", "stays")); got != "true" {
			t.Errorf("the container with a restart policy runs: %s", got)
		}
	})

	t.Run("up again adds a host", func(t *testing.T) {
		again, err := lab.Up(ctx, lab.Config{Hosts: 3, Dir: l.Dir()})
		if err != nil {
			t.Fatal(err)
		}
		wantReach(t, again.Host(3), one, true)
		if got := must(t)(one.Docker(ctx, "inspect", "--format", "{{.State.Running}}", "stays")); got != "true" {
			t.Errorf("bringing up a lab that is up disturbed a container; it runs: %s", got)
		}
	})
}

func cutAndHeal(t *testing.T, l *lab.Lab) {
	ctx, one, two := t.Context(), l.Host(1), l.Host(2)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	gateway := "10.99.0.254"
	wantReach(t, one, two, true)
	do(l.Cut(ctx, lab.Between(1, 2)))
	wantReach(t, one, two, false)
	wantReach(t, two, one, false)
	if !reaches(ctx, one, gateway) {
		t.Error("cutting a link to another host cut the gateway off too")
	}
	do(l.Heal(ctx, lab.Off(1)))
	wantReach(t, one, two, true)
	do(l.Cut(ctx, lab.Off(2)))
	wantReach(t, one, two, false)
	if reaches(ctx, two, gateway) {
		t.Error("a host that is cut off reaches the gateway")
	}
	do(l.Heal(ctx))
	wantReach(t, two, one, true)
	do(l.Cut(ctx, lab.OneWay(1, 2)))
	if got := delivered(t, one, two); got {
		t.Error("a datagram passed the cut direction")
	}
	if got := delivered(t, two, one); !got {
		t.Error("a datagram was lost in the open direction")
	}
	do(l.Heal(ctx, lab.OneWay(1, 2)))
	wantReach(t, one, two, true)
}

// delivered sends datagrams and reports whether they arrived. The neighbour is set by hand,
// because finding it needs both directions.
func delivered(t *testing.T, from, to *lab.Host) bool {
	t.Helper()
	const datagrams = 200
	mac := must(t)(to.Exec(t.Context(), "cat", "/sys/class/net/eth0/address"))
	must(t)(from.Exec(t.Context(), "ip", "neigh", "replace", to.Addr4().String(), "lladdr", mac, "dev", "eth0"))
	received := func() int {
		n, err := strconv.Atoi(must(t)(to.Exec(t.Context(), "cat", "/sys/class/net/eth0/statistics/rx_packets")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := received()
	send := fmt.Sprintf("for i in {1..%d}; do echo >/dev/udp/%s/9 || true; done 2>/dev/null", datagrams, to.Addr4())
	must(t)(from.Exec(t.Context(), "bash", "-c", send))
	must(t)(from.Exec(t.Context(), "ip", "neigh", "del", to.Addr4().String(), "dev", "eth0"))
	return received()-before >= datagrams
}
