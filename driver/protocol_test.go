package driver_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/attach/attachtest"
	"github.com/weftnet/weft/driver"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/rpc/rpctest"
)

var update = flag.Bool("update", false, "rewrite the stories in testdata")

// docker stands for the dockerd that calls a host's driver.
type docker struct {
	t      testing.TB
	host   *attachtest.Host
	attach *attach.Attachments
	call   func(*http.Request) (int, string)
}

// agent makes the attachments of a host and the server of Docker's protocol before them.
func agent(t testing.TB, host *attachtest.Host) (*attach.Attachments, *rpc.Server) {
	t.Helper()
	a, err := attach.New(host.Config())
	if err != nil {
		t.Fatal(err)
	}
	return a, rpc.New(rpc.Config{Routes: driver.New(a.Of(netmap.OwnerDocker), host).Routes()})
}

// overSocket is a dockerd at a real unix socket.
func overSocket(t testing.TB, host *attachtest.Host) *docker {
	t.Helper()
	a, server := agent(t, host)
	path := filepath.Join(t.TempDir(), "weft.sock")
	l, err := rpc.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &docker{t: t, host: host, attach: a, call: func(r *http.Request) (int, string) {
		resp, err := client.Do(r)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, string(b)
	}}
}

// inMemory is a dockerd without a socket, for bubbles of virtual time and fuzzing.
func inMemory(t testing.TB, host *attachtest.Host) *docker {
	t.Helper()
	a, server := agent(t, host)
	return &docker{t: t, host: host, attach: a, call: func(r *http.Request) (int, string) {
		w := rpctest.Call(server, r)
		return w.Code, w.Body.String()
	}}
}

// say makes one call of the driver protocol; body is text, or a value for JSON.
func (d *docker) say(method string, body any) (status int, answer string) {
	d.t.Helper()
	text, isText := body.(string)
	if !isText {
		b, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		text = string(b)
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://plugin.moby.localhost/NetworkDriver."+method, strings.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	return d.call(r)
}

// ok makes a call that must succeed.
func (d *docker) ok(method string, body any) string {
	d.t.Helper()
	status, answer := d.say(method, body)
	if status != http.StatusOK || strings.Contains(answer, `"Err"`) {
		d.t.Errorf("%s %v: %d %s", method, body, status, answer)
	}
	return answer
}

// refused makes a call that must fail with a status and a sentence for the user.
func (d *docker) refused(status int, says, method string, body any) {
	d.t.Helper()
	got, answer := d.say(method, body)
	var failure struct{ Err string }
	if err := json.Unmarshal([]byte(answer), &failure); err != nil || got != status || !strings.Contains(failure.Err, says) {
		d.t.Errorf("%s %v: %d %s\nwant %d saying %q", method, body, got, answer, status, says)
	}
}

// story compares what was asked of the host since the last time.
func (d *docker) story(want string) {
	d.t.Helper()
	if diff := cmp.Diff(lines(want), d.host.Story()); diff != "" {
		d.t.Errorf("story (-want +got):\n%s", diff)
	}
}

// holds compares what the host holds now.
func (d *docker) holds(want string) {
	d.t.Helper()
	if diff := cmp.Diff(lines(want), d.host.String()); diff != "" {
		d.t.Errorf("the host holds (-want +got):\n%s", diff)
	}
}

// lines removes the indentation of Go source from a text.
func lines(s string) string {
	out := strings.Split(strings.TrimSpace(s), "\n")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return strings.Join(out, "\n")
}

type object map[string]any

// Ids as long as Docker's.
var (
	netA, netB = id("a"), id("b")
	end1, end2 = id("1"), id("2")
)

func id(digit string) string { return strings.Repeat(digit, 64) }

func pool(subnet string) object {
	return object{"AddressSpace": "weft", "Pool": subnet, "Gateway": ""}
}

func createNetwork(id string, pools ...string) object {
	v4, v6 := []object{}, []object{}
	for _, p := range pools {
		if strings.Contains(p, ":") {
			v6 = append(v6, pool(p))
		} else {
			v4 = append(v4, pool(p))
		}
	}
	return object{"NetworkID": id, "IPv4Data": v4, "IPv6Data": v6, "Options": object{"com.docker.network.generic": object{}}}
}

func createEndpoint(network, id, addr string) object {
	return object{"NetworkID": network, "EndpointID": id, "Interface": object{"Address": addr, "AddressIPv6": "", "MacAddress": ""}, "Options": object{}}
}

func about(network, id string) object { return object{"NetworkID": network, "EndpointID": id} }

// TestLivesAsDockersSendThem replays recorded calls of several generations of Docker, from the
// creation of a network to its removal (testdata/README.md), and compares answers and effects with
// the recorded story.
func TestLivesAsDockersSendThem(t *testing.T) {
	for _, version := range []string{"20.10", "28", "29"} {
		t.Run(version, func(t *testing.T) {
			d := overSocket(t, attachtest.New())
			bodies, err := filepath.Glob(filepath.Join("testdata", version, "*.json"))
			if err != nil || len(bodies) == 0 {
				t.Fatal("no bodies", err)
			}
			var told strings.Builder
			for _, file := range bodies {
				body, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				_, method, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".json"), "-")
				fmt.Fprintf(&told, "%s\n", method)
				if s := d.host.Story(); s != "" {
					t.Errorf("before %s: %s", method, s)
				}
				answer := d.ok(method, string(body))
				if s := d.host.Story(); s != "" {
					fmt.Fprintf(&told, "  %s\n", strings.ReplaceAll(s, "\n", "\n  "))
				}
				fmt.Fprintf(&told, "  → %s\n", answer)
			}
			d.holds("")
			golden(t, filepath.Join("testdata", version, "story.txt"), told.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// methods are all that need a body.
var methods = []string{
	"GwAllocCheck", "AllocateNetwork", "FreeNetwork", "CreateNetwork", "DeleteNetwork", "CreateEndpoint", "DeleteEndpoint",
	"EndpointOperInfo", "Join", "Leave", "ProgramExternalConnectivity", "RevokeExternalConnectivity", "DiscoverNew", "DiscoverDelete",
}

func TestARepeatedCallWithoutItsBodyChangesNothing(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	before := d.host.String()
	_ = d.host.Story()
	for _, method := range methods {
		for _, body := range []string{"", " \n", "null", "[]", `"`, "\x00", `{"NetworkID":`, `{"NetworkID":7}`, `{} {}`} {
			status, answer := d.say(method, body)
			// Methods that the driver ignores check only that the body is an object.
			if status != http.StatusBadRequest && !(status == http.StatusOK && strings.HasPrefix(body, `{"NetworkID":7`)) {
				t.Errorf("%s %q: %d %s", method, body, status, answer)
			}
		}
	}
	d.story("")
	d.holds(before)
}

// TestSwarmScopeIsRefusedByName: swarm gives a network an id of its own form and a subnet of
// Docker's. The refusal has the network's name where Docker has listed the network.
func TestSwarmScopeIsRefusedByName(t *testing.T) {
	d := overSocket(t, attachtest.New())
	const elsewhere = "21fqaltzo6x2790lrmd78eaal"
	body := func(id string) object {
		body := createNetwork(id)
		body["IPv4Data"] = []object{{"AddressSpace": "LocalDefault", "Pool": "172.20.0.0/16"}}
		return body
	}
	d.refused(400, "network swarmed: Weft does not support --scope swarm yet; remove the network", "CreateNetwork", body(attachtest.SwarmNetwork))
	d.refused(400, "network "+elsewhere+": Weft does not support --scope swarm", "CreateNetwork", body(elsewhere))
	d.refused(400, "network "+elsewhere+": Weft does not support --scope swarm", "CreateNetwork", createNetwork(elsewhere, "10.32.0.0/20"))
	d.refused(400, "network swarmed: Weft does not support --scope swarm", "AllocateNetwork", object{"NetworkID": attachtest.SwarmNetwork, "Options": nil, "IPv4Data": []object{}, "IPv6Data": nil})
	d.ok("FreeNetwork", object{"NetworkID": attachtest.SwarmNetwork})
	d.story("")
}

// TestPublishedPortsAreNotDecoded: docker_gwbridge publishes the ports, not Weft. A container may
// have 65,535 of them, and each would be decoded into a map.
func TestPublishedPortsAreNotDecoded(t *testing.T) {
	d := inMemory(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	port := object{"Proto": 6, "IP": "", "Port": 80, "HostIP": "0.0.0.0", "HostPort": 80, "HostPortEnd": 80}
	ports := object{"com.docker.network.portmap": slices.Repeat([]object{port}, 1<<16-1)}
	create := createEndpoint(netA, end1, "10.32.0.2/20")
	join := about(netA, end1)
	join["SandboxKey"] = "/var/run/docker/netns/1"
	for _, call := range []struct {
		method string
		body   object
	}{{"CreateEndpoint", create}, {"Join", join}} {
		call.body["Options"] = ports
		text, err := json.Marshal(call.body)
		if err != nil {
			t.Fatal(err)
		}
		if allocs := testing.AllocsPerRun(1, func() { d.ok(call.method, string(text)) }); allocs > 1000 {
			t.Errorf("%s made %.0f values of %d ports", call.method, allocs, 1<<16-1)
		}
	}
}

func TestFieldsOfNewerDockers(t *testing.T) {
	d := overSocket(t, attachtest.New())
	body := createNetwork(netA, "10.32.0.0/20")
	body["Labels"] = object{"a": []int{1, 2}}
	body["Options"] = object{"com.docker.network.generic": nil, "com.docker.network.new": object{"deep": true}}
	d.ok("CreateNetwork", body)
	d.story("ledger: docker aaaaaaaaaaaa makes network 1 10.32.0.0/20")
}
