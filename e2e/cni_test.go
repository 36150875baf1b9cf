package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// runtime calls the CNI plugin on a host as a container runtime does: with CNI's own cnitool.
type runtime struct {
	s    *scene
	host *lab.Host
	dir  string // has cnitool, the plugin under its name, and the configurations
}

// runtime puts the plugin and a runtime on a host.
func (s *scene) runtime(h *lab.Host) *runtime {
	s.t.Helper()
	r := &runtime{s: s, host: h, dir: filepath.Join(shared.dir, s.prefix+"cni")}
	must(s.t, os.MkdirAll(filepath.Join(r.dir, "net.d"), 0o755))
	must(s.t, os.Symlink(s.weft, filepath.Join(r.dir, "weft-cni")))
	build := exec.CommandContext(s.t.Context(), "go", "build", "-o", filepath.Join(r.dir, "cnitool"), "github.com/containernetworking/cni/cnitool")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("cnitool: %v: %s", err, out)
	}
	return r
}

// configure writes a configuration of one network.
func (r *runtime) configure(name, format string, args ...any) {
	r.s.t.Helper()
	must(r.s.t, os.WriteFile(filepath.Join(r.dir, "net.d", name+".conf"), fmt.Appendf(nil, format, args...), 0o644))
}

// namespace makes one on the host, until the test ends.
func (r *runtime) namespace(name string) string {
	r.s.t.Helper()
	name = r.s.name(name)
	_, err := r.host.Exec(r.s.t.Context(), "ip", "netns", "add", name)
	must(r.s.t, err)
	r.s.t.Cleanup(func() { // it may be gone
		_, _ = r.host.Exec(context.WithoutCancel(r.s.t.Context()), "ip", "netns", "del", name)
	})
	return "/run/netns/" + name
}

// tool carries out a call of cnitool; env are variables for it.
func (r *runtime) tool(call, network, ns string, env ...string) (string, error) {
	args := append([]string{"env", "CNI_PATH=" + r.dir, "NETCONFPATH=" + filepath.Join(r.dir, "net.d")}, env...)
	return r.host.Exec(r.s.t.Context(), append(args, filepath.Join(r.dir, "cnitool"), call, network, ns)...)
}

func (r *runtime) does(call, network, ns string, env ...string) string {
	r.s.t.Helper()
	out, err := r.tool(call, network, ns, env...)
	must(r.s.t, err)
	return out
}

// refuses expects an error with all these words.
func (r *runtime) refuses(words []string, call, network, ns string, env ...string) {
	r.s.t.Helper()
	out, err := r.tool(call, network, ns, env...)
	if err == nil {
		r.s.t.Errorf("cnitool %s %s succeeds, want %q: %s", call, network, words, out)
		return
	}
	r.s.t.Logf("%s: %v", call, err)
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			r.s.t.Errorf("cnitool %s %s: %v, want %q", call, network, err, w)
		}
	}
}

// result is what ADD prints, as far as the tests look at it.
type result struct {
	IPs []struct {
		Address   netip.Prefix
		Interface *int
	}
	Interfaces []struct{ Name, Mac, Sandbox string }
	DNS        struct{ Nameservers []string }
	IP4        struct{ IP netip.Prefix } // of 0.1.0 and 0.2.0, which Mesos reads
}

func parsed(t *testing.T, out string) (r result) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// TestIntegrationCNI: a container that a runtime starts over CNI is on the same network as Docker's on other hosts.
// ADD, CHECK, DEL, GC and STATUS do what the specification asks, twice too.
func TestIntegrationCNI(t *testing.T) {
	s := onMembersAlone(t) // it kills an agent
	two := s.lab.Host(2)
	overlay := s.network(s.lab.Host(1), "pods", "--ipv6", "--subnet", "10.72.90.0/24", "--subnet", "fd72:90::/64")
	boxes := s.runOnAll(overlay, "box")
	r := s.runtime(two)
	r.configure("pods", `{"cniVersion": "1.1.0", "name": "pods", "type": "weft-cni", "network": %q, "capabilities": {"ips": true}}`, overlay)
	r.configure("nowhere", `{"cniVersion": "1.1.0", "name": "nowhere", "type": "weft-cni"}`)
	r.configure("silent", `{"cniVersion": "1.1.0", "name": "silent", "type": "weft-cni", "network": %q, "socket": "/run/no.sock"}`, overlay)
	r.does("status", "pods", "")
	r.refuses([]string{"nowhere", "docker network create"}, "status", "nowhere", "")
	r.refuses([]string{"/run/no.sock"}, "status", "silent", "")

	ns := r.namespace("pod")
	got := parsed(t, r.does("add", "pods", ns, "CNI_ARGS=K8S_POD_NAME=redis"))
	if len(got.IPs) != 2 || len(got.Interfaces) != 1 || len(got.DNS.Nameservers) != 1 || got.Interfaces[0].Sandbox != ns || got.IPs[0].Interface == nil {
		t.Fatalf("ADD answers %+v, want an interface in %s with an IPv4 and an IPv6 address, and a nameserver", got, ns)
	}
	pod := box{two, s.name("pod"), got.IPs[0].Address.Addr()}
	s.unique(append(boxes, pod)...)
	inside := func(args ...string) (string, error) {
		return two.Exec(t.Context(), append([]string{"nsenter", "--net=" + ns}, args...)...)
	}
	reached := func() {
		t.Helper()
		for _, b := range boxes {
			eventually(t, healWithin, func(context.Context) error {
				_, err := inside("busybox", "ping", "-c", "1", "-W", "1", b.addr.String())
				return err
			})
			for _, to := range got.IPs {
				eventually(t, healWithin, func(ctx context.Context) error {
					_, err := b.exec(ctx, "ping", "-c", "1", "-W", "1", to.Address.Addr().String())
					return err
				})
			}
		}
	}
	reached()
	eventually(t, healWithin, func(context.Context) error {
		out, err := inside("ip", "route", "show", "224.0.0.0/4")
		if err == nil && !strings.Contains(out, "eth0") {
			err = fmt.Errorf("multicasts are led to %q", out)
		}
		return err
	})
	r.does("check", "pods", ns)
	r.refuses([]string{"eth0", "already"}, "add", "pods", ns) // and the container keeps its own
	r.does("check", "pods", ns)

	_, err := inside("ip", "addr", "del", got.IPs[0].Address.String(), "dev", "eth0")
	must(t, err)
	r.refuses([]string{"eth0", pod.addr.String()}, "check", "pods", ns)
	_, err = inside("ip", "addr", "add", got.IPs[0].Address.String(), "dev", "eth0")
	must(t, err)

	// The names of the cluster, and those of the host's own servers.
	_, err = inside("ip", "link", "set", "lo", "up")
	must(t, err)
	resolves := func(name, want string) {
		t.Helper()
		eventually(t, healWithin, func(context.Context) error {
			out, err := inside("busybox", "nslookup", name, got.DNS.Nameservers[0])
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("%s is not among the answers: %s", want, out)
			}
			return err
		})
	}
	resolves(boxes[0].name, boxes[0].addr.String())
	s.resolves(boxes[0], "redis", got.IPs[0].Address.Addr().String(), got.IPs[1].Address.Addr().String())

	must(t, two.KillAgent(t.Context()))
	eventually(t, healWithin, s.allMembers)
	reached()
	resolves(boxes[2].name, boxes[2].addr.String())
	r.does("check", "pods", ns)

	// Docker's network on this host goes and comes back: the container is not Docker's.
	s.docker(two, "rm", "-f", boxes[1].name)
	s.docker(two, "network", "rm", overlay) // a replica, which its agent makes again
	boxes = []box{boxes[0], boxes[2]}
	reached()
	s.everywhere(overlay)

	// An address that somebody has, one of no subnet, one of the runtime's choice.
	other := r.namespace("other")
	wants := func(addr string) string { return fmt.Sprintf(`CAP_ARGS={"ips": [%q]}`, addr) }
	r.refuses([]string{"held", s.name("box")}, "add", "pods", other, wants(boxes[0].addr.String()))
	r.refuses([]string{"no subnet"}, "add", "pods", other, wants("192.0.2.1"))
	r.refuses([]string{"which is none"}, "add", "pods", other, wants("10.72.90"))
	r.refuses([]string{"nowhere"}, "add", "nowhere", other)
	r.refuses([]string{"/run/no.sock"}, "add", "silent", other)
	if fixed := parsed(t, r.does("add", "pods", other, wants("10.72.90.77/24"))); fixed.IPs[0].Address.Addr().String() != "10.72.90.77" {
		t.Errorf("ADD with an address of the runtime's choice answers %+v", fixed)
	}

	// A container that is deleted is, twice too; GC frees what no runtime knows any more, but not what is another
	// configuration's.
	r.does("del", "pods", other)
	r.does("del", "pods", other)
	free := func(addr netip.Addr) {
		t.Helper()
		heir := s.runAt(s.lab.Host(3), overlay, "heir", addr.String())
		s.reach(boxes[0], addr)
		s.docker(s.lab.Host(3), "rm", "-f", heir.name)
	}
	free(netip.MustParseAddr("10.72.90.77"))
	must(t, r.call("GC", `{"cniVersion": "1.1.0", "name": "others", "type": "weft-cni", "network": %q, "cni.dev/valid-attachments": []}`, overlay)) // not its own
	s.refused(s.lab.Host(3), []string{"held", pod.addr.String()}, s.command(s.lab.Host(3), overlay, "thief", "--ip", pod.addr.String())...)
	must(t, r.call("GC", `{"cniVersion": "1.1.0", "name": "pods", "type": "weft-cni", "network": %q, "cni.dev/valid-attachments": []}`, overlay))
	free(pod.addr)

	// A container that goes without a word, as all do at a reboot, gives its address back.
	lost := r.namespace("lost")
	r.does("add", "pods", lost, wants("10.72.90.78"))
	_, err = two.Exec(t.Context(), "ip", "netns", "del", filepath.Base(lost))
	must(t, err)
	eventually(t, 3*healWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, two)
		if err != nil {
			return err
		}
		for _, n := range report.Networks {
			if i := slices.IndexFunc(n.Endpoints, func(e api.Endpoint) bool { return e.V4.String() == "10.72.90.78" }); i >= 0 {
				return fmt.Errorf("it sees %+v still", n.Endpoints[i])
			}
		}
		return nil
	})
	free(netip.MustParseAddr("10.72.90.78"))
}

// call carries out a call of a runtime with a configuration, for one namespace where ADD and DEL need it.
func (r *runtime) call(command, format string, args ...any) error {
	_, err := r.answer(command, "", fmt.Sprintf(format, args...))
	return err
}

func (r *runtime) answer(command, ns, conf string) (string, error) {
	return r.host.Exec(r.s.t.Context(), "env", "CNI_COMMAND="+command, "CNI_CONTAINERID="+r.s.name("direct"), "CNI_NETNS="+ns, "CNI_IFNAME=eth0", "CNI_PATH="+r.dir,
		"sh", "-c", `printf %s "$1" | "$0"`, filepath.Join(r.dir, "weft-cni"), conf)
}

// TestIntegrationCNIVersions: each version of the specification gets its own form of the result, among them those that Mesos
// reads.
func TestIntegrationCNIVersions(t *testing.T) {
	s := onMembers(t)
	overlay := s.network(s.lab.Host(1), "versions", "--subnet", "10.72.91.0/24")
	r := s.runtime(s.lab.Host(2))
	ns := r.namespace("pod")
	for _, v := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		conf := fmt.Sprintf(`{"cniVersion": %q, "name": "v", "type": "weft-cni", "network": %q, "args": {"org.apache.mesos": {"network_info": {"name": "v", "ip_addresses": [{"protocol": "IPv4"}]}}}}`, v, overlay)
		out, err := r.answer("ADD", ns, conf)
		must(t, err)
		got := parsed(t, out)
		if v < "0.3.0" && !got.IP4.IP.IsValid() || v >= "0.3.0" && (len(got.IPs) != 1 || !got.IPs[0].Address.IsValid()) {
			t.Errorf("ADD of version %s answers %s", v, out)
		}
		gone := ns
		if v == "0.2.0" { // as Mesos after a reboot
			gone = ""
			_, err = s.lab.Host(2).Exec(t.Context(), "ip", "netns", "del", filepath.Base(ns))
			must(t, err)
			ns = r.namespace("later")
		}
		_, err = r.answer("DEL", gone, conf)
		must(t, err)
	}
	if _, err := r.answer("ADD", ns, `{"cniVersion": "9.0.0", "name": "v", "type": "weft-cni"}`); err == nil {
		t.Error("version 9.0.0 is answered")
	}
	if _, err := r.answer("ADD", ns, `{"cniVersion": "1.0.0", "name": "v", "type": "weft-cni", "ipam": {"type": "host-local"}}`); err == nil {
		t.Error("addresses of another plugin are accepted")
	}
}
