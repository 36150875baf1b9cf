package dockerapi

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weftnet/weft/netmap"
)

// dockerd is a real engine in mount and network namespaces of its own, with a
// plugin "weft" that agrees to everything.
type dockerd struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
}

func startDockerd(t *testing.T) *dockerd {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real dockerd; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to start a dockerd")
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Skip("needs dockerd: ", err)
	}
	dir, err := os.MkdirTemp("", "weft-real")
	if err != nil {
		t.Fatal(err)
	}
	d := &dockerd{t: t, dir: dir}
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("dockerd's log is kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	d.plugin()
	d.start()
	return d
}

func (d *dockerd) socket() string { return filepath.Join(d.dir, "docker.sock") }

// script makes the test's own directory the engine's /run and starts it there.
const script = `
mount --make-rprivate / && mount --bind "$DIR/run" /run && ip link set lo up &&
exec dockerd --host "unix://$DIR/docker.sock" --data-root "$DIR/data" --exec-root /run/exec --pidfile /run/dockerd.pid \
	--cgroup-parent "$GROUP" --config-file "$DIR/none.json" --bridge none --iptables=false --ip6tables=false --storage-driver vfs`

func (d *dockerd) group() string { return "/" + filepath.Base(d.dir) }

func (d *dockerd) start() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	if err := os.WriteFile(filepath.Join(d.dir, "none.json"), []byte("{}"), 0o644); err != nil {
		d.t.Fatal(err)
	}
	d.cmd = exec.Command("unshare", "--net", "--mount", "--uts", "sh", "-c", script)
	d.cmd.Env = append(os.Environ(), "DIR="+d.dir, "GROUP="+d.group())
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
}

// stop ends the engine and waits until it is gone.
func (d *dockerd) stop() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { d.cmd.Process.Kill() })
	defer late.Stop()
	d.cmd.Wait()
	d.cmd = nil
	for _, controllers := range []string{"", "*"} { // cgroup v2, v1
		groups, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", controllers, d.group()))
		for _, g := range groups {
			os.Remove(g)
		}
	}
}

// plugin serves both protocols on a socket where the engine looks for it.
func (d *dockerd) plugin() {
	d.t.Helper()
	plugins := filepath.Join(d.dir, "run", "docker", "plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		d.t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(plugins, "weft.sock"))
	if err != nil {
		d.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(agree)}
	go server.Serve(listener)
	d.t.Cleanup(func() { server.Close() })
}

func agree(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Pool, Address string
		V6            bool
	}
	json.NewDecoder(r.Body).Decode(&asked) // some requests have no body
	answer := map[string]any{}
	switch r.URL.Path {
	case "/Plugin.Activate":
		answer["Implements"] = []string{"NetworkDriver", "IpamDriver"}
	case "/NetworkDriver.GetCapabilities":
		answer["Scope"] = "local"
	case "/IpamDriver.GetDefaultAddressSpaces":
		answer["LocalDefaultAddressSpace"], answer["GlobalDefaultAddressSpace"] = "l", "g"
	case "/IpamDriver.RequestPool":
		pool := asked.Pool
		if pool == "" && asked.V6 {
			pool = "fd00:99::/64"
		}
		gateway := strings.NewReplacer(".0/", ".1/", "::/", "::1/").Replace(pool)
		answer = map[string]any{"PoolID": pool, "Pool": pool, "Data": map[string]string{"com.docker.network.gateway": gateway}}
	case "/IpamDriver.RequestAddress":
		answer["Address"] = "10.99.0.7/24"
		if asked.Address != "" {
			answer["Address"] = asked.Address + "/24"
		}
	}
	json.NewEncoder(w).Encode(answer)
}

func (d *dockerd) docker(args ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "docker", append([]string{"-H", "unix://" + d.socket()}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// until waits for an event of this kind, and returns it.
func until(t *testing.T, from <-chan Event, kind Kind) Event {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		select {
		case e := <-from:
			if e.Kind == kind {
				return e
			}
		case <-deadline:
			t.Fatalf("no %s within 60 s", kind)
		}
	}
}

func TestIntegrationRealDocker(t *testing.T) {
	engine := startDockerd(t)
	d, err := Open(Config{Socket: engine.socket(), Drivers: []string{"weft"}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	from := d.Watch(t.Context())
	until(t, from, Resync)
	version, err := d.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("API %s", version)

	id, err := d.CreateReplica(t.Context(), ReplicaSpec{
		Network: 5, Name: "overlay", Driver: "weft", Internal: true, Shown: netmap.DockerNetwork{
			Options: map[string]string{"weft.mtu": "1400"}, Labels: map[string]string{"a": "b"}, IPAMOptions: map[string]string{"k": "v"}, Attachable: true,
			Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.99.0.0/24"), Gateway: netip.MustParseAddr("10.99.0.1")}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Event{Kind: NetworkCreated, Network: id, Name: "overlay", Driver: "weft"}
	if diff := cmp.Diff(want, until(t, from, NetworkCreated)); diff != "" {
		t.Error(diff)
	}
	byHand := engine.docker("network", "create", "-d", "weft", "--ipam-driver", "weft", "--ipv6", "--subnet", "10.98.0.0/24", "dual")
	t.Run("networks", func(t *testing.T) { realNetworks(t, d, id, byHand) })
	t.Run("containers", func(t *testing.T) { realContainers(t, engine, d, from, id) })
	t.Run("restart", func(t *testing.T) {
		engine.stop()
		until(t, from, Lost)
		engine.start()
		until(t, from, Resync)
	})
	for _, n := range []string{id, id, byHand} {
		if err := d.RemoveNetwork(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	until(t, from, NetworkRemoved)
}

func realNetworks(t *testing.T, d *Docker, replica, byHand string) {
	t.Helper()
	list, err := d.Networks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ours []Network
	for _, n := range list {
		if n.Ours {
			ours = append(ours, n)
		}
	}
	want := []Network{
		{
			// The v6 gateway is the one that engines before 28 write with its length.
			ID: byHand, Name: "dual", Driver: "weft", Ours: true, Shown: netmap.DockerNetwork{IPv6: true, Pools: []netmap.DockerPool{
				{Subnet: netip.MustParsePrefix("10.98.0.0/24")},
				{Subnet: netip.MustParsePrefix("fd00:99::/64"), Gateway: netip.MustParseAddr("fd00:99::1")},
			}},
		},
		{
			ID: replica, Name: "overlay", Driver: "weft", Ours: true, Replica: 5, Internal: true,
			Shown: netmap.DockerNetwork{
				Options: map[string]string{"weft.mtu": "1400", ReplicaOption: "5"}, Labels: map[string]string{"a": "b"}, IPAMOptions: map[string]string{"k": "v"}, Attachable: true,
				Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.99.0.0/24"), Gateway: netip.MustParseAddr("10.99.0.1")}},
			},
		},
	}
	if diff := cmp.Diff(want, ours, byValue, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if _, err := d.CreateReplica(t.Context(), ReplicaSpec{Name: "dual", Driver: "weft"}); err == nil || !strings.Contains(err.Error(), byHand) {
		t.Errorf("a second network named dual: %v", err)
	}
}

func realContainers(t *testing.T, engine *dockerd, d *Docker, from <-chan Event, network string) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox-static: ", err)
	}
	tar := filepath.Join(engine.dir, "busybox.tar")
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", filepath.Dir(busybox), "-cf", tar, "busybox").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	engine.docker("import", tar, "box")
	container := engine.docker("create", "--name", "web", "--net", network, "--ip", "10.99.0.7", "--network-alias", "www", "box", "/busybox", "sleep", "1000")

	got, err := d.Attachments(t.Context(), network, "overlay")
	if err != nil || len(got) != 1 || got[0].Name != "web" || got[0].Running {
		t.Fatalf("%+v, %v", got, err)
	}
	engine.docker("start", "web")
	if e := until(t, from, Connected); e.Network != network || e.Container != container {
		t.Errorf("%+v", e)
	}
	if e := until(t, from, ContainerStarted); e.Container != container || e.Name != "web" {
		t.Errorf("%+v", e)
	}
	got, err = d.Attachments(t.Context(), network, "overlay")
	if err != nil || len(got) != 1 || !got[0].Running || len(got[0].Endpoint) != 64 || got[0].V4 != netip.MustParseAddr("10.99.0.7") {
		t.Errorf("%+v, %v", got, err)
	}
	if listed, err := d.Endpoints(t.Context(), network); err != nil || len(listed) != 1 || listed[0] != got[0].Endpoint {
		t.Errorf("endpoints %v, %v", listed, err)
	}
	if err := d.RemoveNetwork(t.Context(), network); err == nil || !strings.Contains(fmt.Sprint(err), ErrInUse.Error()) {
		t.Errorf("removed a network in use: %v", err)
	}
	engine.docker("rename", "web", "www2")
	if e := until(t, from, ContainerRenamed); e.OldName != "web" || e.Name != "www2" {
		t.Errorf("%+v", e)
	}
	engine.docker("rm", "-f", "www2")
	if e := until(t, from, ContainerDied); e.Container != container {
		t.Errorf("%+v", e)
	}
	until(t, from, Disconnected)
}
