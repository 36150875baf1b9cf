package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// ask asks Docker's resolver in a container once, with Go's packages. The answer is as in probe.Span.
func (b box) ask(ctx context.Context, name string) (string, error) {
	out, err := b.exec(ctx, "probe", "names", "-for", "50ms", name)
	var spans []probe.Span
	if err == nil {
		err = json.Unmarshal([]byte(out), &spans)
	}
	if err != nil || len(spans) == 0 {
		return "", fmt.Errorf("probe names said %q: %w", out, err)
	}
	return spans[0].Answer, nil
}

// answered waits until a name is answered in a container with this.
func (s *scene) answered(from box, name, want string) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) error {
		got, err := from.ask(ctx, name)
		if err == nil && got != want {
			err = fmt.Errorf("%s on %s is answered %s for %s, want %s", from.name, from.host.Name(), got, name, want)
		}
		return err
	})
}

// inside runs one of the host's programs in the network namespace of a container.
func (b box) inside(ctx context.Context, args ...string) (string, error) {
	pid, err := b.host.Docker(ctx, "inspect", "-f", "{{.State.Pid}}", b.name)
	if err != nil {
		return "", err
	}
	return b.host.Exec(ctx, append([]string{"nsenter", "-t", pid, "-n"}, args...)...)
}

// requires fails a test without these programs, or skips it where the lab is not required.
func requires(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("WEFT_LAB_REQUIRED") != "" {
			t.Fatalf("%s is not installed; scripts/install-deps.sh installs it", program)
		}
		t.Skip(program, "is not installed")
	}
}

// hostPrograms lets a container run the programs of this machine.
var hostPrograms = []string{"-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"}

// dnsmasq starts a DNS server with these options in a container, and returns its name.
func (s *scene) dnsmasq(h *lab.Host, network, name string, options ...string) string {
	s.t.Helper()
	s.mu.Lock()
	s.boxes[h.Number()] = append(s.boxes[h.Number()], s.name(name))
	s.mu.Unlock()
	args := append([]string{"run", "-d", "--name", s.name(name), "--net", network}, hostPrograms...)
	args = append(args, lab.BusyBoxImage, "/usr/sbin/dnsmasq", "-k", "--user=root", "--pid-file=", "--conf-file=/dev/null", "--no-resolv", "--no-hosts")
	s.docker(h, append(args, options...)...)
	return s.name(name)
}

// TestIntegrationNamesBesideDockers: what Docker does with names it still does, with every option that it has for
// them, and containers with few rights have the names of the cluster too.
func TestIntegrationNamesBesideDockers(t *testing.T) {
	requires(t, "dnsmasq")
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	network := s.network(one, "beside")
	db := s.run(one, network, "db")
	near := s.run(two, network, "near")
	server := s.addr(two, s.dnsmasq(two, network, "server", "--local=/outside/", "--address=/web.outside/192.0.2.1", "--address=/short.outside/192.0.2.2"), network).String()
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(resolv, []byte("nameserver "+server+"\n"), 0o644))
	for _, c := range []struct {
		args []string
		want map[string]string
	}{
		{[]string{"--dns", server}, map[string]string{"db": db.addr.String(), near.name: near.addr.String(), "web.outside": "192.0.2.1", "no.outside": "NXDOMAIN"}},
		{[]string{"--read-only", "--cap-drop", "ALL", "--user", "1234"}, map[string]string{"db": db.addr.String(), near.name: near.addr.String()}},
		{[]string{"--link", near.name + ":linked"}, map[string]string{"linked": near.addr.String(), "db": db.addr.String()}},
	} {
		client := s.run(two, network, "client"+c.args[0], c.args...)
		for name, want := range c.want {
			s.answered(client, name, want)
		}
	}
	// What only a container's own libraries look at.
	client := s.run(two, network, "search", "--dns", server, "--dns-search", "outside", "--dns-option", "ndots:3")
	if out, err := client.exec(t.Context(), "cat", "/etc/resolv.conf"); err != nil || !strings.Contains(out, "search outside") || !strings.Contains(out, "ndots:3") {
		t.Errorf("resolv.conf is %q (%v)", out, err)
	}
	if out, _ := client.exec(t.Context(), "ping", "-c", "1", "-W", "1", "short"); !strings.Contains(out, "(192.0.2.2)") { // nobody is there
		t.Errorf("ping of a name in the search domain said %q", out)
	}
	own := s.run(two, network, "own", "-v", resolv+":/etc/resolv.conf")
	if out, _ := own.exec(t.Context(), "nslookup", "-type=a", "web.outside"); !strings.Contains(out, "Address: 192.0.2.1") {
		t.Errorf("with a resolv.conf of its own a container finds %q", out)
	}
	s.docker(two, "run", "--rm", "--net", "container:"+near.name, lab.BusyBoxImage, "sh", "-c", "nslookup -type=a db | grep "+db.addr.String())
}

// TestIntegrationNamesOfSeveralNetworks: a container has the names of all its networks, Weft's and Docker's, as it is
// connected and disconnected; after the last of Weft's there is nothing of Weft's in its namespace.
func TestIntegrationNamesOfSeveralNetworks(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	red, blue := s.network(one, "red"), s.network(one, "blue", "--internal")
	bridge := s.of(two, "bridge")
	s.docker(two, "network", "create", bridge)
	inRed := s.run(one, red, "r", "--network-alias", "both")
	inBlue := s.run(one, blue, "b", "--network-alias", "both")
	beside := s.run(two, bridge, "beside")
	secret := s.run(two, blue, "secret")
	s.answered(secret, "both", inBlue.addr.String())

	client := s.run(two, bridge, "client")
	s.answered(client, beside.name, beside.addr.String())
	s.docker(two, "network", "connect", red, client.name)
	s.answered(client, "both", inRed.addr.String())
	s.docker(two, "network", "connect", blue, client.name)
	s.resolves(client, "both", inRed.addr.String(), inBlue.addr.String())
	s.answered(client, "both."+red, inRed.addr.String())
	s.answered(client, "both."+blue, inBlue.addr.String())
	s.answered(client, inRed.name, inRed.addr.String())
	s.answered(client, beside.name, beside.addr.String())

	s.docker(two, "network", "disconnect", red, client.name)
	s.answered(client, "both", inBlue.addr.String())
	s.docker(two, "network", "disconnect", blue, client.name)
	if got, err := client.ask(t.Context(), beside.name); err != nil || got != beside.addr.String() {
		t.Errorf("right after it was disconnected the container is answered %s (%v), want %s", got, err, beside.addr)
	}
	eventually(t, healWithin, func(ctx context.Context) error {
		tables, err := client.inside(ctx, "nft", "list", "tables")
		if err != nil {
			return err
		}
		sockets, err := client.inside(ctx, "ss", "-anptu")
		if err == nil && strings.Contains(tables+sockets, "weft") {
			err = fmt.Errorf("in the namespace of a container on no network of Weft's there is %s\n%s", tables, sockets)
		}
		return err
	})
	s.docker(two, "network", "connect", red, client.name)
	s.answered(client, "both", inRed.addr.String())
}

// TestIntegrationNamesOfOneContainer: every name that a container is found by, and those that it is not, as several
// clients see them.
func TestIntegrationNamesOfOneContainer(t *testing.T) {
	requires(t, "dig", "getent", "musl-gcc", "node")
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	network := s.network(one, "called")
	args := []string{"--expose", "8080", "-e", "MARATHON_APP_ID=/web/customer1/site1", "--network-alias", "Under_Score", "--network-alias", strings.Repeat("a", 70)}
	for i := range 300 {
		args = append(args, "--network-alias", fmt.Sprint("many", i))
	}
	db := s.run(one, network, "db", args...)
	musl := filepath.Join(t.TempDir(), "resolve")
	out, err := exec.CommandContext(t.Context(), "musl-gcc", "-static", "-o", musl, "testdata/resolve.c").CombinedOutput()
	if err != nil {
		t.Fatalf("musl-gcc: %v: %s", err, out)
	}
	client := s.run(two, network, "client", append(hostPrograms, "-v", musl+":/resolve:ro")...)
	addr, full := db.addr.String(), fullName(db, network)
	for _, name := range []string{
		db.name, "db", strings.ToUpper(db.name), "under_score", "UNDER_SCORE", "many0", "many100",
		"site1.customer1.web", "site1-customer1-web", "site1-customer1-web.weft.local", full,
	} {
		s.answered(client, name, addr)
	}
	s.seenByClients(client, db, network)

	s.docker(one, "rename", db.name, db.name+"-new")
	s.answered(client, db.name+"-new", addr)
	s.answered(client, full, "NXDOMAIN")
	s.docker(one, "rename", db.name+"-new", db.name)
	s.answered(client, full, addr)
}

// fullName is how the cluster refers to a container on a network.
func fullName(b box, network string) string { return b.name + "." + network + ".weft.local" }

// seenByClients checks what many clients in one container find of another one.
func (s *scene) seenByClients(client, db box, network string) {
	t := s.t
	t.Helper()
	addr, full := db.addr.String(), fullName(db, network)
	dig := func(question ...string) []string {
		return append([]string{"/usr/bin/dig", "+time=2", "+tries=1"}, question...)
	}
	node := func(call string) []string {
		return []string{"/usr/bin/node", "-e", "require('dns')." + call + ",(err,got)=>console.log(err||JSON.stringify(got)))"}
	}
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{"ping", "-c", "1", db.name}, "(" + addr + ")"},
		{[]string{"/usr/bin/getent", "ahosts", db.name}, addr},
		{[]string{"/usr/bin/getent", "hosts", addr}, full},
		{[]string{"/resolve", db.name}, addr},
		{[]string{"/resolve", full}, addr},
		{node("lookup('" + db.name + "'"), addr},
		{node("resolve4('" + db.name + "'"), addr},
		{node("reverse('" + addr + "'"), full},
		{node("resolveSrv('_8080._tcp." + db.name + "'"), full},
		{dig(db.name), addr},
		{dig("+tcp", db.name), addr},
		{dig("+bufsize=512", "+tcp", full), addr},
		{dig("-x", addr), full + "."},
		{dig("_8080._tcp."+db.name, "SRV"), "0 0 8080 " + full + "."},
		{dig(db.name, "ANY"), "RFC8482"},
		{dig(db.name, "AAAA"), "status: NOERROR"},
		{dig("nobody.weft.local", "AAAA"), "status: NXDOMAIN"},
		{dig(db.host.Name() + ".hosts.weft.local"), s.own(db.host, network).String()},
	} {
		if out, err := client.exec(t.Context(), c.argv...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%q said %q (%v), want %q", c.argv, out, err, c.want)
		}
	}
}
