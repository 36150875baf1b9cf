// Package mesostest does what Marathon and Mesos do with the definition of a Docker app: from its JSON
// to the message that Mesos gets, from there to the arguments of `docker run`, and back to the address
// that Mesos reads from Docker. A test that runs them on a Docker host runs the app as a cluster would.
//
// The rules are those of mesosphere/marathon@90619da (AppNormalization.scala, TaskBuilder.scala,
// EnvironmentHelper.scala, ContainerSerializer.scala) and of src/docker/docker.cpp of
// apache/mesos@c1b42f7.
package mesostest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// App is an app definition, as far as it has a say in how its container runs.
type App struct {
	ID        string            `json:"id"`
	Instances int               `json:"instances"`
	Cmd       string            `json:"cmd"`
	Args      []string          `json:"args"`
	CPUs      float64           `json:"cpus"`
	Mem       float64           `json:"mem"` // MB
	Disk      float64           `json:"disk"`
	GPUs      int               `json:"gpus"`
	Env       map[string]any    `json:"env"` // a secret is an object
	Labels    map[string]string `json:"labels"`
	IPAddress *struct {
		NetworkName string `json:"networkName"`
	} `json:"ipAddress"`
	Networks        []Network        `json:"networks"`
	Ports           []int            `json:"ports"`
	PortDefinitions []PortDefinition `json:"portDefinitions"`
	RequirePorts    bool             `json:"requirePorts"` // of the host, as they are defined
	Constraints     [][]string       `json:"constraints"`  // of the hostname
	HealthChecks    []HealthCheck    `json:"healthChecks"`
	UpgradeStrategy UpgradeStrategy  `json:"upgradeStrategy"`
	Container       struct {
		PortMappings []PortMapping `json:"portMappings"`
		Volumes      []Volume      `json:"volumes"`
		Docker       struct {
			Image          string        `json:"image"`
			ForcePullImage bool          `json:"forcePullImage"`
			Network        string        `json:"network"`
			Privileged     bool          `json:"privileged"`
			PortMappings   []PortMapping `json:"portMappings"`
			Parameters     []Parameter   `json:"parameters"`
		} `json:"docker"`
	} `json:"container"`
}

// Network is one of the networks of an app.
type Network struct {
	Mode string `json:"mode"` // host, container/bridge, or container, also if empty
	Name string `json:"name"`
}

// PortDefinition is a port of an app on the network of its host.
type PortDefinition struct {
	Port int    `json:"port"` // 0: any
	Name string `json:"name"`
}

// PortMapping is a port of an app on a network of its own.
type PortMapping struct {
	ContainerPort int    `json:"containerPort"` // 0: the same as on the host
	HostPort      *int   `json:"hostPort"`      // nil: no port of the host; 0: any
	Protocol      string `json:"protocol"`
	Name          string `json:"name"`
}

// Volume is a directory of the host in the container.
type Volume struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	Mode          string `json:"mode"` // RW or RO
}

// Parameter is an option of `docker run` that an app asks for.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Modes of a network.
const (
	modeHost      = "host"
	modeBridge    = "container/bridge"
	modeContainer = "container"
)

// ParseApp reads an app definition.
func ParseApp(text []byte) (App, error) {
	var a App
	if err := json.Unmarshal(text, &a); err != nil {
		return App{}, fmt.Errorf("this is no app definition: %w", err)
	}
	return a, nil
}

// network is the network of the app, from either of Marathon's two ways to say it.
func (a App) network(defaultName string) (Network, error) {
	if len(a.Networks) > 0 && (a.Container.Docker.Network != "" || a.IPAddress != nil) {
		return Network{}, errors.New("cannot mix deprecated and canonical network APIs")
	}
	if len(a.Networks) > 1 {
		return Network{}, errors.New("may only specify a single container network when using the Docker container engine")
	}
	n, err := a.deprecatedNetwork()
	if len(a.Networks) == 1 {
		n = a.Networks[0]
		n.Mode = cmp.Or(n.Mode, modeContainer)
	}
	if n.Mode == modeContainer {
		n.Name = cmp.Or(n.Name, defaultName)
		if n.Name == "" && err == nil {
			err = errors.New("container network name is not defined")
		}
	}
	return n, err
}

// deprecatedNetwork is what docker.network and ipAddress say.
func (a App) deprecatedNetwork() (n Network, err error) {
	if a.IPAddress != nil {
		n.Name = a.IPAddress.NetworkName
	}
	switch kind := a.Container.Docker.Network; {
	case kind == "USER", kind == "" && a.IPAddress != nil:
		n.Mode = modeContainer
	case kind == "BRIDGE":
		n.Mode = modeBridge
	case kind == "HOST", kind == "":
		n.Mode = modeHost
	default:
		err = fmt.Errorf("unsupported docker network type %s", kind)
	}
	return n, err
}

// mappings are the app's port mappings on a network of this mode.
func (a App) mappings(mode string) ([]PortMapping, error) {
	docker := a.Container.Docker.PortMappings
	if len(docker) > 0 && len(a.Container.PortMappings) > 0 {
		return nil, errors.New("cannot specify both portMappings and docker.portMappings")
	}
	if mode == modeHost {
		return nil, nil
	}
	out := slices.Concat(a.Container.PortMappings, docker)
	if len(out) == 0 {
		out = []PortMapping{{Name: "default"}}
	}
	for len(out) < max(len(a.Ports), len(a.PortDefinitions)) {
		out = append(out, PortMapping{})
	}
	for i := range out {
		out[i].Protocol = cmp.Or(out[i].Protocol, "tcp")
		if mode == modeBridge {
			out[i].HostPort = cmp.Or(out[i].HostPort, new(int))
		}
	}
	return out, nil
}

// portDefinitions are the app's ports on the network of its host.
func (a App) portDefinitions() []PortDefinition {
	if a.PortDefinitions != nil {
		return a.PortDefinitions
	}
	if a.Ports == nil {
		return []PortDefinition{{Name: "default"}}
	}
	out := make([]PortDefinition, len(a.Ports))
	for i, port := range a.Ports {
		out[i].Port = port
	}
	return out
}
