package overlays

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// modules is a file for Mesos' flag --modules.
type modules struct {
	Libraries []struct {
		Modules []module `json:"modules"`
	} `json:"libraries"`
}

type module struct {
	Name       string `json:"name"`
	Parameters []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"parameters"`
}

// agentConfig is the file of the agent module.
type agentConfig struct {
	Master        string `json:"master"`
	CNIDir        string `json:"cni_dir"`
	NetworkConfig struct {
		AllocateSubnet *bool `json:"allocate_subnet"`
		MesosBridge    *bool `json:"mesos_bridge"`
		DockerBridge   *bool `json:"docker_bridge"`
		EnableIPv6     *bool `json:"enable_ipv6"`
		OverlayMTU     int   `json:"overlay_mtu"`
	} `json:"network_config"`
}

// importer collects the settings of Weft that say what Mesos' module files say.
type importer struct {
	read  func(path string) ([]byte, error)
	lines []string
}

// Import returns the settings of Weft that stand for the overlay modules in a file of Mesos' --modules, one a line, with
// remarks that begin with #. It reads the files that the modules name, of which those that are not there are no error.
func Import(file []byte, read func(path string) ([]byte, error)) ([]string, error) {
	var m modules
	if err := json.Unmarshal(file, &m); err != nil {
		return nil, fmt.Errorf("it is no file for Mesos' --modules: %w", err)
	}
	i := importer{read: read}
	found := false
	for _, library := range m.Libraries {
		for _, mod := range library.Modules {
			if !strings.Contains(mod.Name, "Overlay") {
				i.note("module %s is none of the overlay's: it stays", mod.Name)
				continue
			}
			found = true
			if err := i.module(mod); err != nil {
				return nil, fmt.Errorf("module %s: %w", mod.Name, err)
			}
		}
	}
	if !found {
		return nil, errors.New("it names no overlay module; those are com_mesosphere_mesos_OverlayMasterManager and com_mesosphere_mesos_OverlayAgentManager")
	}
	return i.lines, nil
}

func (i *importer) note(format string, args ...any) {
	i.lines = append(i.lines, "# "+fmt.Sprintf(format, args...))
}

func (i *importer) set(name, value string) {
	if line := name + "=" + value; !slices.Contains(i.lines, line) {
		i.lines = append(i.lines, line)
	}
}

// module reads the parameters of one module; those of the first releases stand in them alone.
func (i *importer) module(m module) error {
	i.note("%s", m.Name)
	var a agentConfig
	isAgent := false
	for _, p := range m.Parameters {
		var err error
		switch p.Key {
		case "master_config", "overlays":
			err = i.master(p.Value)
		case "agent_config":
			isAgent = true
			err = i.file(p.Value, func(raw []byte) error { return json.Unmarshal(raw, &a) })
		case "master":
			isAgent, a.Master = true, p.Value
		case "cni_dir":
			isAgent, a.CNIDir = true, p.Value
		default:
			i.note("parameter %s=%s means nothing on Weft", p.Key, p.Value)
		}
		if err != nil {
			return fmt.Errorf("%s=%s: %w", p.Key, p.Value, err)
		}
	}
	if isAgent {
		i.agent(a)
	}
	return nil
}

// file reads a file that a module names.
func (i *importer) file(path string, parse func([]byte) error) error {
	raw, err := i.read(path)
	if err != nil {
		i.note("%v: run this where the file is, to see what is in it", err)
		return nil
	}
	return parse(raw)
}

func (i *importer) master(path string) error {
	i.set("WEFT_OVERLAYS", path)
	return i.file(path, func(raw []byte) error {
		c, err := Parse(raw)
		if err != nil {
			return err
		}
		if len(c.Ignored) > 0 {
			i.note("%s: not needed, the cluster's own ledger keeps what is decided", strings.Join(c.Ignored, ", "))
		}
		i.note("copy %s to every host: each creates the networks that are not there, and answers for all", path)
		return nil
	})
}

func (i *importer) agent(a agentConfig) {
	host, _, zookeeper := strings.Cut(a.Master, "://")
	switch {
	case a.Master == "":
		i.note("MESOS_MASTER or MESOS_ZK of the agent's environment names the master: WEFT_JOIN=mesos+http://MASTER:5050, with a master's address")
	case zookeeper && host == "zk":
		i.note("master %s: Weft asks the masters themselves: WEFT_JOIN=mesos+http://MASTER:5050, with each master's address, comma separated", a.Master)
	default:
		i.set("WEFT_JOIN", "mesos+http://"+strings.TrimPrefix(a.Master, "http://"))
	}
	n := a.NetworkConfig
	if a.CNIDir != "" && !isFalse(n.MesosBridge) {
		i.set("WEFT_CNI_DIR", a.CNIDir)
	}
	if isFalse(n.AllocateSubnet) || isFalse(n.MesosBridge) && isFalse(n.DockerBridge) {
		i.set("WEFT_MEMBER_OF", "all")
		i.note("the host reaches the containers of all overlays and needs none of its own")
	}
	if isFalse(n.DockerBridge) {
		i.note("docker_bridge=false: the Docker networks appear all the same, and cost nothing while they have no container")
	}
	if isFalse(n.EnableIPv6) {
		i.note("enable_ipv6=false: leave subnet6 out of the overlay file instead")
	}
	if n.OverlayMTU != 0 {
		i.note("overlay_mtu=%d: containers get what the hosts' network carries; WEFT_MTU=%d bounds it to that", n.OverlayMTU, n.OverlayMTU)
	}
}

func isFalse(b *bool) bool { return b != nil && !*b }
