package mesostest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Agent is a host on which Mesos starts containers.
type Agent interface {
	Hostname() string
	// Docker runs a docker command there, and returns what it printed.
	Docker(ctx context.Context, args ...string) (string, error)
}

// Running is a task that was started.
type Running struct {
	App       App
	Agent     Agent
	Task      TaskInfo
	Container Container
	Addr      netip.Addr // as Mesos reads it
}

// Cluster keeps the instances of apps running, as Marathon does. One call is made at a time.
type Cluster struct {
	Marathon Marathon
	Mesos    Mesos
	Agents   []Agent
	// Healthy waits until all health checks of a task succeed, for as long as the app's grace lets it.
	Healthy func(context.Context, Running) error

	tasks []Running
	lost  []Agent
	next  int
}

// Tasks are those of an app that run.
func (c *Cluster) Tasks(id string) (out []Running) {
	for _, r := range c.tasks {
		if r.App.ID == id {
			out = append(out, r)
		}
	}
	return out
}

// Deploy makes a cluster run an app as it is defined: it starts what is missing and stops what is too much, and
// replaces instances of an earlier definition. It returns when all instances are healthy.
func (c *Cluster) Deploy(ctx context.Context, a App) error {
	current, old := c.versions(a)
	kill, most := 0, a.Instances
	if len(old) > 0 {
		kill, most = a.UpgradeStrategy.plan(a.Instances, len(old)+len(current))
	}
	kill = min(kill, len(old))
	surplus := max(0, len(current)-a.Instances)
	if err := c.stop(ctx, slices.Concat(old[:kill], current[:surplus])...); err != nil {
		return err
	}
	old, current = old[kill:], current[surplus:]
	for len(current) < a.Instances {
		n := min(a.Instances-len(current), most-len(current)-len(old))
		if n <= 0 {
			return fmt.Errorf("the deployment of %s is stuck: %d run, at most %d may", a.ID, len(current)+len(old), most)
		}
		started, err := c.startSome(ctx, a, n)
		if err != nil {
			return err
		}
		current = append(current, started...)
		for _, r := range started {
			if err := c.Healthy(ctx, r); err != nil {
				return fmt.Errorf("%s does not get healthy: %w", r.Task.ID, err)
			}
			one := min(1, len(old))
			if err := c.stop(ctx, old[:one]...); err != nil {
				return err
			}
			old = old[one:]
		}
	}
	return c.stop(ctx, old...)
}

// versions are the tasks of an app by its present definition, and those by earlier ones.
func (c *Cluster) versions(a App) (current, old []Running) {
	for _, r := range c.Tasks(a.ID) {
		if sameVersion(r.App, a) {
			current = append(current, r)
		} else {
			old = append(old, r)
		}
	}
	return current, old
}

func (c *Cluster) startSome(ctx context.Context, a App, n int) ([]Running, error) {
	var out []Running
	for range n {
		r, err := c.start(ctx, a)
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Tend finds out which tasks have ended and which agents do not answer, and starts their tasks anew.
func (c *Cluster) Tend(ctx context.Context) error {
	var apps []App
	names := map[string][]string{}
	c.lost = nil
	for _, agent := range c.Agents {
		out, err := agent.Docker(ctx, "ps", "--format", "{{.Names}}")
		if err != nil {
			c.lost = append(c.lost, agent)
			continue
		}
		names[agent.Hostname()] = strings.Fields(out)
	}
	c.tasks = slices.DeleteFunc(c.tasks, func(r Running) bool {
		gone := !slices.Contains(names[r.Agent.Hostname()], r.Container.Name())
		if gone && !slices.ContainsFunc(apps, func(a App) bool { return a.ID == r.App.ID }) {
			apps = append(apps, r.App)
		}
		return gone
	})
	for _, a := range apps {
		if err := c.Deploy(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// sameVersion reports whether two definitions differ in nothing but the number of instances.
func sameVersion(a, b App) bool {
	a.Instances = b.Instances
	return reflect.DeepEqual(a, b)
}

// UpgradeStrategy says how many instances an update needs and takes, as shares of all.
type UpgradeStrategy struct {
	MinimumHealthCapacity *float64 `json:"minimumHealthCapacity"` // nil: 1
	MaximumOverCapacity   *float64 `json:"maximumOverCapacity"`   // nil: 1
}

// plan says how many instances are stopped before any is started, and how many may run at a time (TaskReplaceActor).
func (u UpgradeStrategy) plan(instances, running int) (kill, most int) {
	one := 1.0
	least := int(math.Ceil(float64(instances) * *cmp.Or(u.MinimumHealthCapacity, &one)))
	most = int(float64(instances) * (1 + *cmp.Or(u.MaximumOverCapacity, &one)))
	kill = max(0, running-least)
	if least == most && most <= running {
		most++
	}
	if instances < running {
		kill = max(running-instances, kill)
	}
	return kill, most
}

// start starts a task where the app's constraints and the offers allow it.
func (c *Cluster) start(ctx context.Context, a App) (Running, error) {
	agent, err := c.place(a)
	if err != nil {
		return Running{}, err
	}
	c.next++
	offer, container := Instance(a, agent.Hostname(), c.next)
	offer.Ports = c.freePorts(agent)
	r := Running{App: a, Agent: agent, Container: container}
	if r.Task, err = c.Marathon.Task(a, offer); err != nil {
		return r, err
	}
	argv, err := c.Mesos.DockerRun(r.Task, container)
	if err != nil {
		return r, err
	}
	// Mesos stays attached; here Docker is asked instead.
	run := slices.Index(argv, "run") + 1
	if _, err := agent.Docker(ctx, slices.Insert(argv, run, "-d")[1:]...); err != nil {
		return r, err
	}
	c.tasks = append(c.tasks, r)
	out, err := agent.Docker(ctx, "inspect", container.Name())
	if err != nil {
		return r, err
	}
	if r.Task.Container.Network != "HOST" {
		r.Addr, err = Address([]byte(out))
	}
	c.tasks[len(c.tasks)-1] = r
	return r, err
}

// stop ends tasks as Mesos' executor does, whose grace is three seconds.
func (c *Cluster) stop(ctx context.Context, all ...Running) error {
	for _, r := range all {
		c.tasks = slices.DeleteFunc(c.tasks, func(t Running) bool { return t.Container == r.Container })
		if _, err := r.Agent.Docker(ctx, "stop", "-t", "3", r.Container.Name()); err != nil {
			return err
		}
		if _, err := r.Agent.Docker(ctx, "rm", "-v", r.Container.Name()); err != nil {
			return err
		}
	}
	return nil
}

// place is the agent that the next instance of an app runs on: of those that the constraints allow, and that have its
// ports, the one with the fewest tasks.
func (c *Cluster) place(a App) (Agent, error) {
	var best Agent
	for _, agent := range c.Agents {
		if slices.Contains(c.lost, agent) || !c.allowed(a, agent) || !c.offers(a, agent) {
			continue
		}
		if best == nil || c.count(agent) < c.count(best) {
			best = agent
		}
	}
	if best == nil {
		return nil, errors.New("no offer fits " + a.ID)
	}
	return best, nil
}

func (c *Cluster) on(agent Agent) (out []Running) {
	for _, r := range c.tasks {
		if r.Agent == agent {
			out = append(out, r)
		}
	}
	return out
}

func (c *Cluster) count(agent Agent) int { return len(c.on(agent)) }
