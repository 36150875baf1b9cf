package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// This is what Marathon and Mesos make of a Docker app: the arguments of
// `docker run`. The order and the rules are those of src/docker/docker.cpp
// (RunOptions::create and run) of apache/mesos@c1b42f7, and of TaskBuilder.scala
// and EnvironmentHelper of mesosphere/marathon@90619da.

// app is an app definition, as far as it has a say in `docker run`.
type app struct {
	ID        string            `json:"id"`
	Cmd       string            `json:"cmd"`
	Args      []string          `json:"args"`
	CPUs      float64           `json:"cpus"`
	Mem       float64           `json:"mem"` // MB
	Env       map[string]string `json:"env"`
	Labels    map[string]string `json:"labels"`
	IPAddress *struct {
		NetworkName string `json:"networkName"`
	} `json:"ipAddress"`
	Networks []struct {
		Mode string `json:"mode"`
		Name string `json:"name"`
	} `json:"networks"`
	Container struct {
		PortMappings []portMapping `json:"portMappings"`
		Docker       struct {
			Image        string        `json:"image"`
			Network      string        `json:"network"`
			Privileged   bool          `json:"privileged"`
			PortMappings []portMapping `json:"portMappings"`
			Parameters   []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"parameters"`
		} `json:"docker"`
	} `json:"container"`
}

type portMapping struct {
	ContainerPort int    `json:"containerPort"`
	HostPort      *int   `json:"hostPort"` // nil: no port of the host; 0: any
	Protocol      string `json:"protocol"`
	Name          string `json:"name"`
}

// task is what an offer adds to an app.
type task struct {
	ID       string
	UUID     string // of the container
	Hostname string // of the agent
	Sandbox  string // directory on the agent
	Version  string // Marathon's, of the app: a time
	Ports    []int  // of the offer, in the order in which they are used
}

// mesos is a version of Mesos, as far as it matters.
type mesos struct {
	// replacesNetwork: the first parameter net or network is taken instead of the
	// network mode, from 1.12 on (b6750fe61). Before it comes on top.
	replacesNetwork bool
}

var (
	mesosStock = mesos{}
	mesos112   = mesos{replacesNetwork: true}
)

// network is the argument of --net and the port mappings that count.
func (a app) network() (string, []portMapping, error) {
	docker := a.Container.Docker
	mappings := slices.Concat(a.Container.PortMappings, docker.PortMappings)
	deprecated := docker.Network != "" || a.IPAddress != nil
	switch {
	case deprecated && len(a.Networks) > 0:
		return "", nil, errors.New("cannot mix deprecated and canonical network APIs")
	case len(a.Networks) > 1:
		return "", nil, errors.New("only a single network can be defined in docker run")
	case len(a.Networks) == 1 && a.Networks[0].Mode == "container/bridge", docker.Network == "BRIDGE":
		return "bridge", atLeastOne(mappings, new(int)), nil
	case len(a.Networks) == 1 && a.Networks[0].Mode != "host":
		return a.Networks[0].Name, atLeastOne(mappings, nil), nil
	case docker.Network == "USER" && (a.IPAddress == nil || a.IPAddress.NetworkName == ""):
		return "", nil, errors.New("container network name is not defined")
	case docker.Network == "USER":
		return a.IPAddress.NetworkName, atLeastOne(mappings, nil), nil
	default:
		return "host", nil, nil
	}
}

// atLeastOne is Marathon's default mapping, and in bridge mode its default host port.
func atLeastOne(mappings []portMapping, hostPort *int) []portMapping {
	if len(mappings) == 0 {
		return []portMapping{{Name: "default", HostPort: hostPort}}
	}
	out := slices.Clone(mappings)
	for i := range out {
		out[i].HostPort = cmp.Or(out[i].HostPort, hostPort)
	}
	return out
}

// offered gives the mappings that want a port of the host one of the offer's.
func offered(mappings []portMapping, ports []int) ([]portMapping, error) {
	out := slices.Clone(mappings)
	for i, m := range out {
		if m.HostPort == nil {
			continue
		}
		if *m.HostPort == 0 {
			if len(ports) == 0 {
				return nil, errors.New("the offer has too few ports")
			}
			out[i].HostPort, ports = new(ports[0]), ports[1:]
		}
		if m.ContainerPort == 0 {
			out[i].ContainerPort = *out[i].HostPort
		}
	}
	return out, nil
}

// portEnv are the variables that tell a task its ports.
func portEnv(mappings []portMapping) map[string]string {
	env := map[string]string{}
	var ports []string
	for i, m := range mappings {
		port := strconv.Itoa(m.ContainerPort)
		if m.HostPort != nil {
			port = strconv.Itoa(*m.HostPort)
			if len(ports) == 0 {
				env["PORT"] = port
			}
			ports = append(ports, port)
		}
		env["PORT"+strconv.Itoa(i)] = port
		env["PORT_"+strconv.Itoa(m.ContainerPort)] = port
		if m.Name != "" {
			env["PORT_"+labelKey(m.Name)] = port
		}
	}
	env["PORTS"] = strings.Join(ports, ",")
	return env
}

var unsafeInEnv = regexp.MustCompile(`[^a-zA-Z0-9_]+`)

func labelKey(s string) string { return strings.ToUpper(unsafeInEnv.ReplaceAllString(s, "_")) }

// environ is all of a task's environment; the app's own wins.
func (a app) environ(k task, mappings []portMapping) map[string]string {
	env := portEnv(mappings)
	maps.Copy(env, map[string]string{
		"HOST": k.Hostname, "MESOS_TASK_ID": k.ID, "MESOS_ALLOCATION_ROLE": "*",
		"MARATHON_APP_ID": a.ID, "MARATHON_APP_VERSION": k.Version, "MARATHON_APP_DOCKER_IMAGE": a.Container.Docker.Image,
		"MARATHON_APP_RESOURCE_CPUS": fmt.Sprintf("%.1f", a.CPUs), "MARATHON_APP_RESOURCE_MEM": fmt.Sprintf("%.1f", a.Mem),
		"MESOS_SANDBOX": "/mnt/mesos/sandbox", "MESOS_CONTAINER_NAME": "mesos-" + k.UUID,
	})
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(a.Labels)) {
		keys = append(keys, labelKey(key))
		env["MARATHON_APP_LABEL_"+labelKey(key)] = a.Labels[key]
	}
	env["MARATHON_APP_LABELS"] = strings.Join(keys, " ")
	maps.Copy(env, a.Env)
	return env
}

// dockerRun is the command line that Mesos runs for a task of an app.
func (v mesos) dockerRun(a app, k task) ([]string, error) {
	network, mappings, err := a.network()
	if err != nil {
		return nil, err
	}
	if mappings, err = offered(mappings, k.Ports); err != nil {
		return nil, err
	}
	docker := a.Container.Docker
	// Marathon adds the label from 1.4 on.
	parameters := append(slices.Clone(docker.Parameters), struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}{"label", "MESOS_TASK_ID=" + k.ID})
	if v.replacesNetwork {
		for i, p := range parameters {
			if p.Key == "net" || p.Key == "network" {
				network, parameters = p.Value, slices.Delete(parameters, i, i+1)
				break
			}
		}
	}

	argv := []string{"docker", "-H", "unix:///var/run/docker.sock", "run"}
	if docker.Privileged {
		argv = append(argv, "--privileged")
	}
	const leastMem = 32 // MB
	argv = append(argv, "--cpu-shares", strconv.Itoa(max(int(1024*a.CPUs), 2)))
	argv = append(argv, "--memory", strconv.Itoa(int(max(a.Mem, leastMem))<<20))
	env := a.environ(k, mappings)
	for _, key := range slices.Sorted(maps.Keys(env)) {
		argv = append(argv, "-e", key+"="+env[key])
	}
	argv = append(argv, "-v", k.Sandbox+":/mnt/mesos/sandbox", "--net", network)
	for _, m := range mappings {
		for proto := range strings.SplitSeq(cmp.Or(m.Protocol, "tcp"), ",") {
			if m.HostPort != nil {
				argv = append(argv, "-p", fmt.Sprintf("%d:%d/%s", *m.HostPort, m.ContainerPort, proto))
			}
		}
	}
	if a.Cmd != "" {
		argv = append(argv, "--entrypoint", "/bin/sh")
	}
	argv = append(argv, "--name", "mesos-"+k.UUID)
	for _, p := range parameters {
		argv = append(argv, "--"+p.Key+"="+p.Value)
	}
	argv = append(argv, docker.Image)
	if a.Cmd != "" {
		return append(argv, "-c", a.Cmd), nil
	}
	return append(argv, a.Args...), nil
}

// parseApp reads an app definition.
func parseApp(text []byte) (app, error) {
	var a app
	err := json.NewDecoder(bytes.NewReader(text)).Decode(&a)
	return a, err
}
