package mesostest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// task is what Marathon makes of an app definition.
func task(t *testing.T, m Marathon, json string) (TaskInfo, error) {
	t.Helper()
	a, err := ParseApp([]byte(json))
	must(t, err)
	offer, _ := Instance(a, "agent1", 0)
	return m.Task(a, offer)
}

// only are the variables of an environment that begin with one of these.
func only(env map[string]string, prefixes ...string) map[string]string {
	out := map[string]string{}
	for key, value := range env {
		for _, p := range prefixes {
			if strings.HasPrefix(key, p) {
				out[key] = value
			}
		}
	}
	return out
}

// TestPortsInTheEnvironment has the cases of Marathon's TaskBuilderTest.
func TestPortsInTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		story, json string
		want        map[string]string
	}{
		{
			"PortsEnvWithOnlyMappings",
			`{"networks":[{"mode":"container/bridge"}],"container":{"portMappings":[
			  {"containerPort":8080,"hostPort":1000,"name":"http"},{"containerPort":8081,"hostPort":1001,"name":"jabber"}]}}`,
			map[string]string{"PORT": "1000", "PORTS": "1000,1001", "PORT0": "1000", "PORT1": "1001", "PORT_8080": "1000", "PORT_8081": "1001", "PORT_HTTP": "1000", "PORT_JABBER": "1001"},
		},
		{
			"PortsEnvWithOnlyMappingsAndUserNetworking",
			`{"networks":[{"name":"overlay"}],"container":{"portMappings":[{"containerPort":8080,"name":"http"},{"containerPort":8081,"name":"jabber"}]}}`,
			map[string]string{"PORTS": "", "PORT0": "8080", "PORT1": "8081", "PORT_8080": "8080", "PORT_8081": "8081", "PORT_HTTP": "8080", "PORT_JABBER": "8081"},
		},
		{
			"some with and some without",
			`{"networks":[{"name":"overlay"}],"container":{"portMappings":[{"containerPort":80},{"containerPort":81,"hostPort":0,"name":"my-name"}]}}`,
			map[string]string{"PORT": "31000", "PORTS": "31000", "PORT0": "80", "PORT1": "31000", "PORT_80": "80", "PORT_81": "31000", "PORT_MY-NAME": "31000"},
		},
		{
			"UserModeAndDefaultPortMapping: Marathon draws a port",
			`{"networks":[{"name":"overlay"}]}`,
			map[string]string{"PORT": "1025", "PORTS": "1025", "PORT0": "1025", "PORT_1025": "1025", "PORT_DEFAULT": "1025"},
		},
		{
			"on the network of the host",
			`{"portDefinitions":[{"port":10000,"name":"http"},{"port":0}]}`,
			map[string]string{"PORT": "31000", "PORTS": "31000,31100", "PORT0": "31000", "PORT1": "31100", "PORT_10000": "31000", "PORT_31100": "31100", "PORT_HTTP": "31000"},
		},
		{
			"and just these ports of it",
			`{"ports":[8080],"requirePorts":true}`,
			map[string]string{"PORT": "8080", "PORTS": "8080", "PORT0": "8080", "PORT_8080": "8080"},
		},
		{"none", `{"portDefinitions":[]}`, map[string]string{}},
	} {
		got, err := task(t, Marathon{}, c.json)
		must(t, err)
		if diff := cmp.Diff(c.want, only(got.Command.Environment, "PORT")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.story, diff)
		}
	}
}

// TestEnvironment has what a task is told besides.
func TestEnvironment(t *testing.T) {
	got, err := task(t, Marathon{EnvVarsPrefix: "P_"}, `{"id":"/web/customer1/site1","cpus":0.25,"mem":64,"disk":1.5,
	  "env":{"MARATHON_APP_ID":"mine","PLAIN":"text","SECRET":{"secret":"s"}},
	  "labels":{"a.b-c":"one","long":"`+strings.Repeat("x", 512)+`"},"portDefinitions":[{"port":0}]}`)
	must(t, err)
	want := map[string]string{
		"P_HOST": "agent1", "P_PORT": "31000", "P_PORTS": "31000", "P_PORT0": "31000", "P_PORT_31000": "31000",
		"PLAIN": "text", "MARATHON_APP_ID": "mine", "MARATHON_APP_DOCKER_IMAGE": "", "MARATHON_APP_ENFORCE_GROUP_ROLE": "FALSE",
		"MARATHON_APP_RESOURCE_CPUS": "0.25", "MARATHON_APP_RESOURCE_MEM": "64.0", "MARATHON_APP_RESOURCE_DISK": "1.5", "MARATHON_APP_RESOURCE_GPUS": "0",
		"MARATHON_APP_VERSION": "2026-01-01T00:00:00.000Z", "MARATHON_APP_LABELS": "A_B_C", "MARATHON_APP_LABEL_A_B_C": "one",
		"MESOS_TASK_ID": "web_customer1_site1.instance-00000000-0000-4000-8000-000000000000._app.1",
	}
	if diff := cmp.Diff(want, got.Command.Environment); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Name != "site1.customer1.web" {
		t.Errorf("the task is called %q", got.Name)
	}
}

// TestNetworkModes has the rules of both ways to say it in Marathon, and of Mesos.
func TestNetworkModes(t *testing.T) {
	for _, c := range []struct{ story, json, want string }{
		{"nothing said", `{}`, "--net host"},
		{"host", `{"container":{"docker":{"network":"HOST","portMappings":[{"containerPort":80,"hostPort":0}]}}}`, "--net host"},
		{"bridge, its host port is any", `{"container":{"docker":{"network":"BRIDGE","portMappings":[{"containerPort":80}]}}}`, "--net bridge -p 31000:80/tcp"},
		{"bridge without mappings", `{"networks":[{"mode":"container/bridge"}]}`, "--net bridge -p 31000:31000/tcp"},
		{"user", `{"ipAddress":{"networkName":"overlay"},"container":{"docker":{"network":"USER","portMappings":[{"containerPort":80}]}}}`, "--net overlay"},
		{"an address and no kind", `{"ipAddress":{"networkName":"overlay"}}`, "--net overlay"},
		{"user without a name", `{"container":{"docker":{"network":"USER"}}}`, "--net fallback"},
		{"container", `{"networks":[{"mode":"container","name":"overlay"}],"container":{"portMappings":[{"containerPort":80,"hostPort":8080},{"hostPort":0}]}}`, "--net overlay -p 8080:80/tcp -p 31000:31000/tcp"},
		{"two protocols", `{"networks":[{"name":"overlay"}],"container":{"portMappings":[{"containerPort":53,"hostPort":0,"protocol":"udp,tcp"}]}}`, "--net overlay -p 31000:53/udp -p 31000:53/tcp"},
		{"more definitions than mappings", `{"networks":[{"mode":"container/bridge"}],"ports":[1,2],"container":{"portMappings":[{"containerPort":80}]}}`, "--net bridge -p 31000:80/tcp -p 31100:31100/tcp"},
		{"none", `{"container":{"docker":{"network":"NONE"}}}`, "unsupported docker network type NONE"},
		{"both ways", `{"networks":[{"mode":"host"}],"ipAddress":{}}`, "cannot mix deprecated and canonical network APIs"},
		{"both mappings", `{"container":{"portMappings":[{}],"docker":{"portMappings":[{}]}}}`, "cannot specify both portMappings and docker.portMappings"},
		{"two networks", `{"networks":[{"name":"a"},{"name":"b"}]}`, "may only specify a single container network when using the Docker container engine"},
		{"too few ports", `{"ports":[0,0,0,0]}`, "the offer has too few ports"},
	} {
		said := ""
		info, err := task(t, Marathon{DefaultNetworkName: "fallback"}, c.json)
		if err == nil {
			said, err = network(Mesos111, info)
		}
		if err != nil {
			said = err.Error()
		}
		if said != c.want {
			t.Errorf("%s: %q, want %q", c.story, said, c.want)
		}
	}
	if _, err := task(t, Marathon{}, `{"networks":[{}]}`); err == nil {
		t.Error("a network without a name was accepted")
	}
}

// network is what a command line says about networks, names and ports.
func network(m Mesos, info TaskInfo) (string, error) {
	argv, err := m.DockerRun(info, Container{UUID: "0", Sandbox: "/s"})
	var out []string
	for i, word := range argv {
		switch {
		case word == "--net", word == "-p", word == "--hostname", strings.HasPrefix(word, "--dns") && !strings.Contains(word, "="):
			out = append(out, word, argv[i+1])
		case strings.HasPrefix(word, "--net"), strings.HasPrefix(word, "--dns"):
			out = append(out, word)
		}
	}
	return strings.Join(out, " "), err
}

// TestMesos has the rules that no example needs.
func TestMesos(t *testing.T) {
	dns := []DefaultDNS{
		{Mode: "BRIDGE", Nameservers: []string{"192.0.2.1"}, Search: []string{"example.org"}, Options: []string{"ndots:1"}},
		{Mode: "USER", Nameservers: []string{"192.0.2.2"}},
		{Mode: "USER", NetworkName: "overlay", Nameservers: []string{"192.0.2.3"}},
	}
	port := func(host int) []PortMapping {
		return []PortMapping{{HostPort: &host, ContainerPort: 80, Protocol: "TCP"}}
	}
	for _, c := range []struct {
		story string
		mesos Mesos
		info  ContainerInfo
		want  string
	}{
		{"none", Mesos{}, ContainerInfo{Network: "NONE"}, "--net none"},
		{"a port", Mesos{}, ContainerInfo{Network: "BRIDGE", PortMappings: port(31000)}, "--net bridge -p 31000:80/tcp"},
		{"a port that is not its", Mesos{}, ContainerInfo{Network: "BRIDGE", PortMappings: port(80)}, "port [80] not included in resources"},
		{"a port of the host", Mesos{}, ContainerInfo{PortMappings: port(31000)}, "port mappings are only supported for bridge and user-defined networks"},
		{"a hostname", Mesos{}, ContainerInfo{Network: "BRIDGE", Hostname: "h"}, "--net bridge --hostname h"},
		{"a hostname of the host", Mesos{}, ContainerInfo{Hostname: "h"}, "unable to set hostname with host network mode"},
		{"no network", Mesos{}, ContainerInfo{Network: "USER"}, "no network info found in container info"},
		{"two networks", Mesos{}, ContainerInfo{Network: "USER", NetworkInfos: []string{"a", "b"}}, "only a single network can be defined in Docker run"},
		{"a network without a name", Mesos{}, ContainerInfo{Network: "USER", NetworkInfos: []string{""}}, "no network name found in network info"},
		{"another mode", Mesos{}, ContainerInfo{Network: "CNI"}, "unsupported network mode: CNI"},
		{"DNS of a bridge", Mesos{DNS: dns}, ContainerInfo{Network: "BRIDGE"}, "--net bridge --dns 192.0.2.1 --dns-search example.org --dns-opt ndots:1"},
		{"DNS of a network", Mesos{DNS: dns}, ContainerInfo{Network: "USER", NetworkInfos: []string{"overlay"}}, "--net overlay --dns 192.0.2.3"},
		{"DNS of other networks", Mesos{DNS: dns}, ContainerInfo{Network: "USER", NetworkInfos: []string{"other"}}, "--net other --dns 192.0.2.2"},
		{"DNS of the app", Mesos{DNS: dns}, ContainerInfo{Network: "BRIDGE", Parameters: []Parameter{{"dns", "192.0.2.9"}}}, "--net bridge --dns=192.0.2.9"},
		{"two parameters", Mesos112, ContainerInfo{Parameters: []Parameter{{"network", "a"}, {"net", "b"}}}, "--net a --net=b"},
		{"two parameters, both", Mesos111, ContainerInfo{Parameters: []Parameter{{"network", "a"}, {"net", "b"}}}, "--net host --network=a --net=b"},
	} {
		said, err := network(c.mesos, TaskInfo{Container: c.info, Ports: []int{31000}})
		if err != nil {
			said = err.Error()
		}
		if said != c.want {
			t.Errorf("%s: %q, want %q", c.story, said, c.want)
		}
	}
}

// TestResources: what a container may use, and what is mounted.
func TestResources(t *testing.T) {
	info, err := task(t, Marathon{}, `{"cpus":0.001,"mem":16,"cmd":"run me","container":{"docker":{"image":"i","privileged":true},
	  "volumes":[{"hostPath":"/h","containerPath":"/c","mode":"RO"},{"hostPath":"h","containerPath":"/c","mode":"RW"},{"hostPath":"/h","containerPath":"c","mode":"RW"}]}}`)
	must(t, err)
	argv, err := Mesos{EnableCFS: true}.DockerRun(info, Container{UUID: "0", Sandbox: "/s"})
	must(t, err)
	got := strings.Join(argv, " ")
	for _, want := range []string{
		"run --privileged --cpu-shares 2 --cpu-quota 1000 --memory 33554432 -e ",
		" -v /h:/c:ro -v /s/h:/c:rw -v /h:/mnt/mesos/sandbox/c:rw -v /s:/mnt/mesos/sandbox --net host --entrypoint /bin/sh --name mesos-0 --label=MESOS_TASK_ID=",
		" i -c run me",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

// TestAddress: Mesos looks under the network of the start, by a dotted path.
func TestAddress(t *testing.T) {
	inspected := func(mode, network, addr, old string) []byte {
		return fmt.Appendf(nil, `[{"HostConfig":{"NetworkMode":%q},"NetworkSettings":{"IPAddress":%q,"Networks":{%q:{"IPAddress":%q}}}}]`, mode, old, network, addr)
	}
	for _, c := range []struct {
		text []byte
		want string
	}{
		{inspected("overlay", "overlay", "10.32.0.2", ""), "10.32.0.2"},
		{inspected("bridge", "bridge", "172.17.0.2", "172.17.0.2"), "172.17.0.2"},
		{inspected("over.lay", "over.lay", "10.32.0.2", ""), "invalid IP"},
		{inspected("default", "bridge", "172.17.0.2", "172.17.0.2"), "172.17.0.2"},
		{[]byte("[]"), "invalid IP"},
		{[]byte("Error: no such"), "invalid IP"},
	} {
		if got, err := Address(c.text); got.String() != c.want || (err != nil) != (c.want == "invalid IP") {
			t.Errorf("%s: %v (%v), want %s", c.text, got, err, c.want)
		}
	}
}

// TestBadApps are refused with a sentence.
func TestBadApps(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"id":5}`, `{"networks":{}}`} {
		if _, err := ParseApp([]byte(text)); err == nil || !strings.Contains(err.Error(), "no app definition") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
