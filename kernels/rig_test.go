package kernels

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/vm"
)

const (
	// step bounds what a machine does at once. An emulated processor is ten times slower than the
	// one that emulates it, which others use as well.
	step = 10 * time.Minute

	debian12 = "bookworm" // kernel 6.1
)

// shared is what the tests of this program have together.
var shared struct {
	mu       sync.Mutex
	dir      string
	machines []*vm.Machine
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, machine := range shared.machines {
		machine.Cut()
	}
	if code != 0 && shared.dir != "" {
		fmt.Fprintln(os.Stderr, "the machines' consoles are in", shared.dir)
	} else if err := os.RemoveAll(shared.dir); shared.dir != "" && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must1 returns the value, or fails the test on an error.
func must1[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// directory is where all of this is, with a path short enough for sockets.
func directory() (string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.dir != "" {
		return shared.dir, nil
	}
	dir, err := os.MkdirTemp("", "weft-kernels-")
	if err == nil {
		shared.dir = dir
		err = payload(dir)
	}
	return dir, err
}

// payload is what each machine finds on its second disk: the plugin, and the image of the containers.
func payload(dir string) error {
	if err := lab.MakeImage(context.Background(), filepath.Join(dir, "image.tar")); err != nil {
		return err
	}
	if _, err := os.Stat("../build/plugin/rootfs/weft"); err != nil {
		return fmt.Errorf("no plugin was built (make plugin): %w", err)
	}
	out, err := exec.Command("tar", "-cf", filepath.Join(dir, "payload.tar"), "-C", "../build", "plugin", "-C", dir, "image.tar").CombinedOutput()
	if err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	return nil
}

// disk has the disk made that all machines of a kind have, once: build/vm keeps it.
func disk(t *testing.T, kind, kernels string, packages ...string) string {
	t.Helper()
	const script = "../scripts/machine-disk.sh"
	text := must1(os.ReadFile(script))(t)
	key := sha256.Sum256(fmt.Appendf(text, "%s %q", kernels, packages))
	dir := filepath.Join("../build/vm", kind+"-"+hex.EncodeToString(key[:4]))
	if older, err := filepath.Glob("../build/vm/" + kind + "-*"); err == nil {
		for _, old := range older {
			if old != dir {
				must(t, os.RemoveAll(old))
			}
		}
	}
	began := time.Now()
	out, err := exec.CommandContext(t.Context(), script, append([]string{dir, kernels}, packages...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	t.Logf("the disk %s after %.0f s", kind, time.Since(began).Seconds())
	return dir
}

// host is a machine in a test.
type host struct {
	*vm.Machine
	t *testing.T
}

// start makes machines with one kernel, host-a and so on, and starts them; two are on one wire.
func start(t *testing.T, disk, kernel string, number int) []host {
	t.Helper()
	dir := must1(directory())(t)
	var out []host
	for i := range number {
		own := filepath.Join(dir, fmt.Sprintf("%s-%d", kernel, i))
		m := must1(vm.New(t.Context(), vm.Config{
			Disk: disk, Kernel: kernel, Dir: own, Name: "host-" + string(rune('a'+i)), Addr: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}), 24),
			Number: byte(1 + i), Wire: own + ".wire", Peer: filepath.Join(dir, fmt.Sprintf("%s-%d.wire", kernel, 1-i)),
			Payload: filepath.Join(dir, "payload.tar"), Processors: 1, Memory: 1536,
		}))(t)
		shared.mu.Lock()
		shared.machines = append(shared.machines, m)
		shared.mu.Unlock()
		out = append(out, host{m, t})
	}
	each(out, host.start)
	return out
}

// start turns a machine on.
func (h host) start() error {
	ctx, cancel := context.WithTimeout(h.t.Context(), step)
	defer cancel()
	return h.Start(ctx)
}

// reboot reboots a machine.
func (h host) reboot() error {
	ctx, cancel := context.WithTimeout(h.t.Context(), step)
	defer cancel()
	return h.Reboot(ctx)
}

// each does something on several hosts at once, and fails the test on an error.
func each(hosts []host, do func(h host) error) {
	hosts[0].t.Helper()
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() { errs[i] = do(h) })
	}
	all.Wait()
	must(hosts[0].t, errors.Join(errs...))
}

// try carries out a script.
func (h host) try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), step)
	defer cancel()
	out, err := h.Run(ctx, script)
	return strings.TrimSpace(out), err
}

// sh carries out a script that has to succeed.
func (h host) sh(script string) string {
	h.t.Helper()
	return must1(h.try(script))(h.t)
}

// install has the machine's Docker run the plugin, as a user does, and gives it the image of the
// containers.
func (h host) install(settings string) error {
	_, err := h.try(`set -e
systemctl start docker
mkdir -p /payload && tar -xf /dev/vdb -C /payload && cp /payload/plugin/rootfs/weft /usr/local/bin/
docker import --change 'ENV PATH=/bin' --change 'CMD ["sh"]' /payload/image.tar weft/busybox:latest
docker plugin create weftnet/weft:latest /payload/plugin
` + settings + `
docker plugin enable weftnet/weft:latest`)
	return err
}

// create makes a network of both families.
func (h host) create(name string, number int) {
	h.t.Helper()
	h.sh(fmt.Sprintf("docker network create -d weftnet/weft:latest --ipam-driver weftnet/weft:latest --ipv6 --subnet 10.%d.0.0/20 --subnet fd%d::/64 %s", number, number, name))
}

// serve starts a container that serves a page with its name and goes on serving it, whatever happens.
func (h host) serve(network, name, args string) {
	h.t.Helper()
	h.sh(fmt.Sprintf(`docker run -d --restart always --name %[1]s --hostname %[1]s --net %[2]s %[3]s weft/busybox:latest sh -c 'hostname >/www/index.html; exec httpd -f -p 80 -h /www'`, name, network, args))
}

// addrs are a container's addresses on a network, of both families.
func (h host) addrs(name, network string) (v4, v6 string) {
	h.t.Helper()
	out := h.sh(fmt.Sprintf(`docker inspect -f '{{with index .NetworkSettings.Networks %q}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}' %s`, network, name))
	v4, v6, _ = strings.Cut(out, " ")
	return v4, v6
}

// reaches is nil if a container gets the pages of names, by name and so by address.
func (h host) reaches(name string, others ...string) error {
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, to := range others {
		fmt.Fprintf(&script, "docker exec %s timeout 15 wget -q -O - http://%s/ >/dev/null\n", name, to)
	}
	_, err := h.try(script.String())
	return err
}

// pings is nil if the host itself reaches addresses of either family.
func (h host) pings(addrs ...string) error {
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, to := range addrs {
		fmt.Fprintf(&script, "ping -n -c 1 -W 5 %s\n", to)
	}
	_, err := h.try(script.String())
	return err
}

// report is what weft status says.
func (h host) report() (r api.Report, err error) {
	out, err := h.try("weft status --json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &r)
	}
	return r, err
}

// quiet is nil if the agent sees so many hosts alive and has nothing to complain of.
func (h host) quiet(alive int) error {
	r, err := h.report()
	if err != nil {
		return err
	}
	seen := 0
	for _, other := range r.Hosts {
		if other.State == "alive" {
			seen++
		}
	}
	if r.State != "ready" || seen != alive || len(r.Problems) > 0 || r.Datapath.Error != "" {
		return fmt.Errorf("%s is %s, sees %d hosts alive, problems %q, datapath %q", h.Name(), r.State, seen, r.Problems, r.Datapath.Error)
	}
	return nil
}

// eventually repeats look until it returns nil, and fails the test when within is over.
func eventually(t *testing.T, within time.Duration, look func() error) {
	t.Helper()
	if err := lab.Until(t.Context(), within, look); err != nil {
		t.Fatalf("still after %v: %v", within, err)
	}
}
