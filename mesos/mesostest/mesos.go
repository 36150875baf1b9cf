package mesostest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Mesos is an agent of Mesos with the flags that matter here.
type Mesos struct {
	// ReplacesNetwork says that the first parameter net or network is taken in place of the
	// network mode, as from 1.12 on (b6750fe61). Earlier ones pass both.
	ReplacesNetwork bool

	EnableCFS bool         // --cgroups_enable_cfs
	DNS       []DefaultDNS // --default_container_dns
}

// The two generations of Mesos: all up to 1.11, and 1.12.
var (
	Mesos111 = Mesos{}
	Mesos112 = Mesos{ReplacesNetwork: true}
)

// DefaultDNS is an entry of docker in --default_container_dns.
type DefaultDNS struct {
	Mode                         string // BRIDGE or USER
	NetworkName                  string // of USER; empty: all others
	Nameservers, Search, Options []string
}

// Container is what Mesos decides about the container of a task.
type Container struct {
	UUID    string
	Sandbox string // directory on the agent
}

// Name is the container's name in Docker.
func (c Container) Name() string { return "mesos-" + c.UUID }

const mappedSandbox = "/mnt/mesos/sandbox"

// DockerRun is the command line that Mesos runs for a task.
func (m Mesos) DockerRun(t TaskInfo, c Container) ([]string, error) {
	network, err := t.Container.network()
	if err != nil {
		return nil, err
	}
	if err := t.checkPorts(network); err != nil {
		return nil, err
	}
	if t.Container.Hostname != "" && network == "host" {
		return nil, errors.New("unable to set hostname with host network mode")
	}
	parameters := slices.Clone(t.Container.Parameters)
	if i := slices.IndexFunc(parameters, Parameter.isNetwork); i >= 0 && m.ReplacesNetwork {
		network = parameters[i].Value
		parameters = slices.Delete(parameters, i, i+1)
	}

	argv := append([]string{"docker", "-H", "unix:///var/run/docker.sock", "run"}, m.resources(t)...)
	env := map[string]string{}
	maps.Copy(env, t.Command.Environment)
	maps.Copy(env, map[string]string{"MESOS_SANDBOX": mappedSandbox, "MESOS_CONTAINER_NAME": c.Name(), "MESOS_ALLOCATION_ROLE": "*"})
	for _, key := range slices.Sorted(maps.Keys(env)) {
		argv = append(argv, "-e", key+"="+env[key])
	}
	for _, v := range t.Container.Volumes {
		argv = append(argv, "-v", v.argument(c.Sandbox))
	}
	argv = append(argv, "-v", c.Sandbox+":"+mappedSandbox, "--net", network)
	if !slices.ContainsFunc(parameters, Parameter.isDNS) {
		argv = append(argv, m.dns(t.Container.Network, network)...)
	}
	if t.Container.Hostname != "" {
		argv = append(argv, "--hostname", t.Container.Hostname)
	}
	for _, p := range t.Container.PortMappings {
		argv = append(argv, "-p", fmt.Sprintf("%d:%d/%s", *p.HostPort, p.ContainerPort, strings.ToLower(p.Protocol)))
	}
	if t.Command.Shell {
		argv = append(argv, "--entrypoint", "/bin/sh")
	}
	argv = append(argv, "--name", c.Name())
	for _, p := range parameters {
		argv = append(argv, "--"+p.Key+"="+p.Value)
	}
	return append(append(argv, t.Container.Image), t.Command.argv()...), nil
}

func (p Parameter) isNetwork() bool { return p.Key == "net" || p.Key == "network" }

func (p Parameter) isDNS() bool {
	return slices.Contains([]string{"dns", "dns-search", "dns-opt", "dns-option"}, p.Key)
}

func (c ContainerInfo) network() (string, error) {
	switch c.Network {
	case "", "HOST":
		return "host", nil
	case "BRIDGE", "NONE":
		return strings.ToLower(c.Network), nil
	case "USER":
	default:
		return "", fmt.Errorf("unsupported network mode: %s", c.Network)
	}
	switch {
	case len(c.NetworkInfos) == 0:
		return "", errors.New("no network info found in container info")
	case len(c.NetworkInfos) > 1:
		return "", errors.New("only a single network can be defined in Docker run")
	case c.NetworkInfos[0] == "":
		return "", errors.New("no network name found in network info")
	}
	return c.NetworkInfos[0], nil
}

func (t TaskInfo) checkPorts(network string) error {
	if len(t.Container.PortMappings) > 0 && (network == "host" || network == "none") {
		return errors.New("port mappings are only supported for bridge and user-defined networks")
	}
	for _, p := range t.Container.PortMappings {
		if !slices.Contains(t.Ports, *p.HostPort) {
			return fmt.Errorf("port [%d] not included in resources", *p.HostPort)
		}
	}
	return nil
}

// resources are the arguments up to --memory.
func (m Mesos) resources(t TaskInfo) []string {
	const leastMem = 32 // MB
	var argv []string
	if t.Container.Privileged {
		argv = append(argv, "--privileged")
	}
	argv = append(argv, "--cpu-shares", strconv.Itoa(max(int(1024*t.CPUs), 2)))
	if m.EnableCFS {
		const period, least = 100_000, 1_000 // microseconds
		argv = append(argv, "--cpu-quota", strconv.Itoa(max(int(period*t.CPUs), least)))
	}
	return append(argv, "--memory", strconv.Itoa(max(int(t.Mem), leastMem)<<20))
}

// dns are the arguments that --default_container_dns adds.
func (m Mesos) dns(mode, network string) (argv []string) {
	best := -1
	for i, d := range m.DNS {
		switch {
		case d.Mode != mode, d.NetworkName != "" && d.NetworkName != network:
		case d.NetworkName != "" || best < 0:
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	add := func(option string, values []string) {
		for _, v := range values {
			argv = append(argv, option, v)
		}
	}
	add("--dns", m.DNS[best].Nameservers)
	add("--dns-search", m.DNS[best].Search)
	add("--dns-opt", m.DNS[best].Options)
	return argv
}

func (v Volume) argument(sandbox string) string {
	host, container := v.HostPath, v.ContainerPath
	if !path.IsAbs(container) {
		container = path.Join(mappedSandbox, container)
	}
	if !path.IsAbs(host) {
		host = path.Join(sandbox, host)
	}
	return host + ":" + container + ":" + strings.ToLower(v.Mode)
}

func (c CommandInfo) argv() []string {
	if c.Shell {
		return []string{"-c", c.Value}
	}
	if c.Value != "" {
		return append([]string{c.Value}, c.Arguments...)
	}
	return c.Arguments
}

// Address reads the address of a container as Mesos does, from what `docker inspect` prints about it: under the
// network that the container was started with, and by a dotted path.
func Address(inspected []byte) (netip.Addr, error) {
	var all []map[string]any
	if err := json.Unmarshal(inspected, &all); err != nil {
		return netip.Addr{}, fmt.Errorf("docker inspect printed no JSON: %w", err)
	}
	if len(all) != 1 {
		return netip.Addr{}, fmt.Errorf("docker inspect showed %d containers, want 1", len(all))
	}
	mode, _ := find(all[0], "HostConfig.NetworkMode")
	text, found := find(all[0], "NetworkSettings.Networks."+mode+".IPAddress")
	if !found {
		text, _ = find(all[0], "NetworkSettings.IPAddress")
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("Mesos finds no address under network %q: %w", mode, err)
	}
	return addr, nil
}

// find looks a text up by a dotted path.
func find(object map[string]any, dotted string) (string, bool) {
	first, rest, more := strings.Cut(dotted, ".")
	if !more {
		text, ok := object[first].(string)
		return text, ok
	}
	inner, ok := object[first].(map[string]any)
	if !ok {
		return "", false
	}
	return find(inner, rest)
}
