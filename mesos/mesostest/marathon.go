package mesostest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Marathon is a scheduler with the flags that matter here.
type Marathon struct {
	DefaultNetworkName string // --default_network_name
	EnvVarsPrefix      string // --env_vars_prefix, of HOST and the variables of ports
}

// Offer is what a task gets from Mesos' offer and from Marathon itself.
type Offer struct {
	TaskID   string
	Hostname string // of the agent
	Version  string // of the app: a time
	Ports    []int  // in the order in which they are used
}

// TaskInfo is what Marathon tells Mesos about a task.
type TaskInfo struct {
	ID        string
	Name      string // of the task, and for discovery
	CPUs, Mem float64
	Ports     []int // of the offer, those that the task uses
	Container ContainerInfo
	Command   CommandInfo
	Labels    map[string]string
	Assigned  []PortAssignment // in the order of the app's ports
}

// ContainerInfo is Mesos' message about a Docker container.
type ContainerInfo struct {
	Image                      string
	ForcePullImage, Privileged bool
	Network                    string   // HOST, BRIDGE, NONE or USER; empty: HOST
	NetworkInfos               []string // their names
	PortMappings               []PortMapping
	Parameters                 []Parameter
	Volumes                    []Volume
	Hostname                   string
}

// CommandInfo is Mesos' message about what runs in a container.
type CommandInfo struct {
	Environment map[string]string
	Shell       bool
	Value       string
	Arguments   []string
}

// PortAssignment says where a port of a task is.
type PortAssignment struct {
	Name          string
	HostPort      int // 0: none
	ContainerPort int
}

// Name is an app's id as the name of its tasks: /web/customer1/site1 is site1.customer1.web.
func Name(id string) string {
	path := strings.Split(strings.Trim(id, "/"), "/")
	slices.Reverse(path)
	return strings.Join(path, ".")
}

// Task makes a task of an app with what an offer gives.
func (m Marathon) Task(a App, o Offer) (TaskInfo, error) {
	network, err := a.network(m.DefaultNetworkName)
	if err != nil {
		return TaskInfo{}, err
	}
	mappings, err := a.mappings(network.Mode)
	if err != nil {
		return TaskInfo{}, err
	}
	if mappings == nil {
		for _, d := range a.portDefinitions() {
			m := PortMapping{ContainerPort: d.Port, HostPort: new(int), Name: d.Name}
			if a.RequirePorts {
				*m.HostPort = d.Port
			}
			mappings = append(mappings, m)
		}
	}
	t := TaskInfo{
		ID: o.TaskID, Name: Name(a.ID), CPUs: a.CPUs, Mem: a.Mem, Labels: a.Labels,
		Container: a.container(network), Command: a.command(),
	}
	given, err := give(mappings, o.Ports)
	if err != nil {
		return TaskInfo{}, err
	}
	for i, p := range given {
		t.Assigned = append(t.Assigned, p)
		if p.HostPort == 0 {
			continue
		}
		t.Ports = append(t.Ports, p.HostPort)
		for protocol := range strings.SplitSeq(mappings[i].Protocol, ",") {
			if network.Mode != modeHost {
				t.Container.PortMappings = append(t.Container.PortMappings, PortMapping{HostPort: &p.HostPort, ContainerPort: p.ContainerPort, Protocol: protocol})
			}
		}
	}
	// Marathon adds the label from 1.4 on.
	t.Container.Parameters = append(slices.Clone(t.Container.Parameters), Parameter{"label", "MESOS_TASK_ID=" + o.TaskID})
	t.Command.Environment = m.environ(a, o, mappings, given)
	return t, nil
}

// give gives ports of the host to those mappings that want one.
func give(mappings []PortMapping, ports []int) ([]PortAssignment, error) {
	var out []PortAssignment
	for _, m := range mappings {
		p := PortAssignment{Name: m.Name, ContainerPort: m.ContainerPort}
		if m.HostPort != nil {
			if p.HostPort = *m.HostPort; p.HostPort == 0 {
				if len(ports) == 0 {
					return nil, errors.New("the offer has too few ports")
				}
				p.HostPort, ports = ports[0], ports[1:]
			}
			if p.ContainerPort == 0 {
				p.ContainerPort = p.HostPort
			}
		}
		out = append(out, p)
	}
	return out, nil
}

func (a App) container(n Network) ContainerInfo {
	docker := a.Container.Docker
	c := ContainerInfo{
		Image: docker.Image, ForcePullImage: docker.ForcePullImage, Privileged: docker.Privileged,
		Parameters: docker.Parameters, Volumes: a.Container.Volumes,
		Network: map[string]string{modeHost: "HOST", modeBridge: "BRIDGE", modeContainer: "USER"}[n.Mode],
	}
	if n.Mode == modeContainer {
		c.NetworkInfos = []string{n.Name}
	}
	return c
}

func (a App) command() CommandInfo {
	// Arguments take precedence over a command.
	return CommandInfo{Shell: a.Cmd != "" && len(a.Args) == 0, Value: a.Cmd, Arguments: a.Args}
}

// environ is the environment of a task. The app's own variables win.
func (m Marathon) environ(a App, o Offer, mappings []PortMapping, given []PortAssignment) map[string]string {
	env := a.contextEnv(o)
	ports := portEnv(mappings, given)
	ports["HOST"] = o.Hostname
	for key, value := range ports {
		env[m.EnvVarsPrefix+key] = value
	}
	for key, value := range a.Env {
		if text, ok := value.(string); ok {
			env[key] = text
		}
	}
	return env
}

// contextEnv tells a task what it is a part of.
func (a App) contextEnv(o Offer) map[string]string {
	env := labelEnv(a.Labels)
	maps.Copy(env, map[string]string{
		"MESOS_TASK_ID": o.TaskID, "MARATHON_APP_ID": a.ID, "MARATHON_APP_VERSION": o.Version,
		"MARATHON_APP_DOCKER_IMAGE":  a.Container.Docker.Image,
		"MARATHON_APP_RESOURCE_CPUS": double(a.CPUs), "MARATHON_APP_RESOURCE_MEM": double(a.Mem), "MARATHON_APP_RESOURCE_DISK": double(a.Disk),
		"MARATHON_APP_RESOURCE_GPUS": number(a.GPUs), "MARATHON_APP_ENFORCE_GROUP_ROLE": "FALSE",
	})
	return env
}

// Instance is the nth instance of an app: a task on the agent hostname, with three ports of the offer, and its container.
func Instance(a App, hostname string, n int) (Offer, Container) {
	uuid := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	id := strings.ReplaceAll(strings.Trim(a.ID, "/"), "/", "_") + ".instance-" + uuid + "._app.1"
	o := Offer{TaskID: id, Hostname: hostname, Version: "2026-01-01T00:00:00.000Z", Ports: []int{31000 + n, 31100 + n, 31200 + n}}
	return o, Container{UUID: uuid, Sandbox: "/var/lib/mesos/slaves/S0/frameworks/F0/executors/" + id + "/runs/" + uuid}
}
