package mesostest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// fake is an agent whose Docker remembers which containers run.
type fake struct {
	name    string
	running []string
	off     bool
	log     *[]string // what was started and stopped on all
}

func (f *fake) Hostname() string { return f.name }

func (f *fake) Docker(_ context.Context, args ...string) (string, error) {
	last := args[len(args)-1]
	switch i := slices.Index(args, "--name"); {
	case f.off:
		return "", errors.New("no route to host")
	case i >= 0:
		f.running = append(f.running, args[i+1])
		*f.log = append(*f.log, "+"+f.name)
	case args[0] == "ps":
		return strings.Join(f.running, "\n"), nil
	case args[0] == "inspect":
		return `[{"NetworkSettings":{"IPAddress":"10.32.0.9"}}]`, nil
	case args[0] == "stop":
		f.running = slices.DeleteFunc(f.running, func(s string) bool { return s == last })
		*f.log = append(*f.log, "-"+f.name)
	}
	return "", nil
}

// fakes are a cluster of n agents.
func fakes(n int) (*Cluster, []*fake, *[]string) {
	c := &Cluster{Mesos: Mesos112, Healthy: func(context.Context, Running) error { return nil }}
	var agents []*fake
	log := &[]string{}
	for i := range n {
		agents = append(agents, &fake{name: fmt.Sprintf("a%d", i+1), log: log})
		c.Agents = append(c.Agents, agents[i])
	}
	return c, agents, log
}

func app(t *testing.T, instances int, more string) App {
	t.Helper()
	a, err := ParseApp(fmt.Appendf(nil, `{"id":"/web","instances":%d,"networks":[{"name":"overlay"}]%s}`, instances, more))
	must(t, err)
	return a
}

// TestScale: instances spread over the agents, more come and some go, and what runs stays.
func TestScale(t *testing.T) {
	c, _, log := fakes(3)
	for _, step := range []struct {
		instances int
		want      string
	}{{2, "+a1 +a2"}, {4, "+a3 +a1"}, {4, ""}, {1, "-a1 -a2 -a3"}, {0, "-a1"}} {
		*log = nil
		must(t, c.Deploy(t.Context(), app(t, step.instances, "")))
		if got := strings.Join(*log, " "); got != step.want {
			t.Errorf("to %d instances: %s, want %s", step.instances, got, step.want)
		}
	}
}

// TestConstraints: where instances may run, and ports of which an agent has only one.
func TestConstraints(t *testing.T) {
	for _, c := range []struct {
		story, more string
		instances   int
		want        string
	}{
		{"unique", `,"constraints":[["hostname","UNIQUE"]]`, 3, "+a1 +a2 +a3"},
		{"unique, more than agents", `,"constraints":[["hostname","UNIQUE"]]`, 4, "no offer fits /web"},
		{"grouped by two agents", `,"constraints":[["hostname","GROUP_BY","2"]]`, 5, "+a1 +a2 +a1 +a2 +a1"},
		{"grouped by more agents than there are", `,"constraints":[["hostname","GROUP_BY","4"]]`, 8, "no offer fits /web"},
		{"a port of the host", `,"container":{"portMappings":[{"containerPort":80,"hostPort":8080}]}`, 3, "+a1 +a2 +a3"},
		{"a port that is taken everywhere", `,"container":{"portMappings":[{"containerPort":80,"hostPort":8080}]}`, 4, "no offer fits /web"},
		{"an attribute", `,"constraints":[["rack","UNIQUE"]]`, 1, "no offer fits /web"},
	} {
		cluster, _, log := fakes(3)
		err := cluster.Deploy(t.Context(), app(t, c.instances, c.more))
		got := strings.Join(*log, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.story, got, c.want)
		}
	}
}

// TestPortsOfOffers: no port of a host is given twice, and those of an ended task are free again.
func TestPortsOfOffers(t *testing.T) {
	c, _, _ := fakes(1)
	more := `,"container":{"portMappings":[{"containerPort":80,"hostPort":0}]}`
	for _, instances := range []int{3, 1, 3} {
		must(t, c.Deploy(t.Context(), app(t, instances, more)))
	}
	var ports []int
	for _, r := range c.Tasks("/web") {
		ports = append(ports, r.Task.Ports...)
	}
	if slices.Sort(ports); !slices.Equal(ports, []int{31000, 31001, 31002}) {
		t.Errorf("ports are %d", ports)
	}
}

// TestRollingUpdate: how many run at a time, and the old go one by one as the new get healthy.
func TestRollingUpdate(t *testing.T) {
	for _, c := range []struct{ strategy, want string }{
		{`{}`, "++++----"},
		{`{"minimumHealthCapacity":1,"maximumOverCapacity":0.25}`, "+-+-+-+-"},
		{`{"minimumHealthCapacity":1,"maximumOverCapacity":0}`, "+-+-+-+-"},
		{`{"minimumHealthCapacity":0.5,"maximumOverCapacity":0}`, "--++--++"},
		{`{"minimumHealthCapacity":0,"maximumOverCapacity":0}`, "----++++"},
	} {
		cluster, _, log := fakes(2)
		more := `,"upgradeStrategy":` + c.strategy
		must(t, cluster.Deploy(t.Context(), app(t, 4, more)))
		*log = nil
		healthy := 0
		cluster.Healthy = func(context.Context, Running) error {
			healthy++
			return nil
		}
		must(t, cluster.Deploy(t.Context(), app(t, 4, more+`,"env":{"V":"2"}`)))
		got := ""
		for _, l := range *log {
			got += l[:1]
		}
		if got != c.want || healthy != 4 {
			t.Errorf("%s: %s with %d that got healthy, want %s", c.strategy, got, healthy, c.want)
		}
		for _, r := range cluster.Tasks("/web") {
			if r.App.Env["V"] != "2" {
				t.Errorf("%s: an old instance still runs", c.strategy)
			}
		}
	}
}

// TestAnUpdateThatDoesNotGetHealthy stops, and leaves the old instances.
func TestAnUpdateThatDoesNotGetHealthy(t *testing.T) {
	c, _, _ := fakes(2)
	must(t, c.Deploy(t.Context(), app(t, 2, "")))
	c.Healthy = func(context.Context, Running) error { return errors.New("502") }
	err := c.Deploy(t.Context(), app(t, 2, `,"env":{"V":"2"}`))
	if err == nil || !strings.Contains(err.Error(), "does not get healthy: 502") {
		t.Error(err)
	}
	if n := len(c.Tasks("/web")); n != 4 {
		t.Errorf("%d instances run, want two of each definition", n)
	}
}

// TestLostTasks are started anew: one that ended where there is room, those of an agent that is away elsewhere.
func TestLostTasks(t *testing.T) {
	c, agents, log := fakes(3)
	must(t, c.Deploy(t.Context(), app(t, 3, "")))
	*log = nil
	must(t, c.Tend(t.Context()))
	agents[1].running = nil
	must(t, c.Tend(t.Context()))
	agents[0].off = true
	must(t, c.Tend(t.Context()))
	if got := strings.Join(*log, " "); got != "+a2 +a2" {
		t.Errorf("started: %s", got)
	}
	if n := len(c.Tasks("/web")); n != 3 {
		t.Errorf("%d instances run, want 3", n)
	}
}

// TestChecks: where Marathon, and Mesos for it, looks in each mode.
func TestChecks(t *testing.T) {
	const host, fixed = `,"container":{"portMappings":[{"containerPort":80,"hostPort":0}]}`, `,"container":{"portMappings":[{"containerPort":80}]}`
	for _, c := range []struct{ story, more, check, want string }{
		{"container network", fixed, `"protocol":"HTTP","path":"/health"`, "http://10.32.0.9:80/health"},
		{"container network, TCP", fixed, `"protocol":"TCP"`, "10.32.0.9:80"},
		{"container network with a port of the host: nobody is there", host, `"protocol":"HTTP"`, "http://10.32.0.9:31000/"},
		{"its way out", host, `"port":80`, "http://10.32.0.9:80/"},
		{"inside", host, `"protocol":"MESOS_HTTP","path":"x"`, "inside http://127.0.0.1:80/x"},
		{"inside, TCP", fixed, `"protocol":"MESOS_TCP"`, "inside 127.0.0.1:80"},
		{"bridge", host + `,"networks":[{"mode":"container/bridge"}]`, `"protocol":"HTTPS"`, "https://agent1:31000/"},
		{"host", `,"networks":[],"ports":[0,0]`, `"portIndex":1`, "http://agent1:31001/"},
		{"command", fixed, `"protocol":"COMMAND","command":{"value":"true"}`, "true"},
		{"no such port", fixed, `"portIndex":7`, "the health check is of a port that the app has not"},
		{"no such protocol", fixed, `"protocol":"UDP"`, "unknown protocol of a health check: UDP"},
	} {
		a := app(t, 1, c.more+`,"healthChecks":[{`+c.check+`}]`)
		task, err := Marathon{}.Task(a, Offer{Hostname: "agent1", Ports: []int{31000, 31001}})
		must(t, err)
		r := Running{App: a, Agent: &fake{name: "agent1"}, Task: task, Addr: netip.MustParseAddr("10.32.0.9")}
		check, err := r.Check(a.HealthChecks[0])
		got := check.URL + check.Address + check.Command
		if check.Inside {
			got = "inside " + got
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.story, got, c.want)
		}
	}
}
