// Package packaging describes the managed plugin to Docker: config.json at the top of
// the repository, which follows from the table of settings.
package packaging

import (
	"encoding/json"
	"fmt"

	"github.com/weftnet/weft/settings"
)

//go:generate go test -run TestConfigIsCurrent -update .

// hostRoot is where the plugin sees the parts of the host that are mounted.
const hostRoot = "/host"

// Docker's plugin configuration, as far as it is used here (moby api/types/plugin).
// Docker ignores keys that it does not know.
type config struct {
	Description   string            `json:"description"`
	Documentation string            `json:"documentation"`
	Entrypoint    []string          `json:"entrypoint"`
	WorkDir       string            `json:"workdir"`
	Interface     pluginInterface   `json:"interface"`
	Network       network           `json:"network"`
	PidHost       bool              `json:"pidhost"`
	Linux         linux             `json:"linux"`
	Mounts        []mount           `json:"mounts"`
	Env           []settings.EnvVar `json:"env"`
}

type pluginInterface struct {
	Types  []string `json:"types"`
	Socket string   `json:"socket"`
}

type network struct {
	Type string `json:"type"`
}

type linux struct {
	Capabilities []string `json:"capabilities"`
}

type mount struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Options     []string `json:"options"`
}

// Config is the whole of config.json.
func Config() ([]byte, error) {
	out, err := json.MarshalIndent(pluginConfig(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("packaging: cannot write config.json: %w", err)
	}
	return append(out, '\n'), nil
}

func pluginConfig() config {
	return config{
		Description:   "Weft: one network for the containers of many hosts",
		Documentation: "https://github.com/weftnet/weft",
		// Docker names the process after the file: weft.
		Entrypoint: []string{"/weft", "agent"},
		WorkDir:    "/",
		// Both protocols on one socket; the plugin sees it as
		// /run/docker/plugins/weft.sock.
		Interface: pluginInterface{
			Types:  []string{"docker.networkdriver/1.0", "docker.ipamdriver/1.0"},
			Socket: "weft.sock",
		},
		Network: network{Type: "host"},
		// The namespaces of dockerd and of containers are found below /proc/<pid>.
		PidHost: true,
		Linux: linux{Capabilities: []string{
			"CAP_NET_ADMIN",  // links, addresses, forwarding entries
			"CAP_SYS_ADMIN",  // setns and bind mounts of namespaces
			"CAP_SYS_PTRACE", // /proc/<pid>/root and /proc/<pid>/ns of others
			// No CAP_SYS_MODULE: the kernel loads vxlan, bridge and veth itself
			// when a link of that kind is asked for.
		}},
		Mounts: mounts(),
		Env:    settings.PluginEnv(hostRoot),
	}
}

// mounts names directories that exist on every host: Docker does not start a
// plugin whose source is missing, and a bind of docker.sock itself would go stale
// when dockerd makes the socket anew.
func mounts() []mount {
	return []mount{
		{
			Name: "state", Description: "identity, allocations and ledger, in /var/lib/weft",
			// rslave also here: else the plugin would hold the file systems of
			// containers below /var/lib/docker after they are gone.
			Source: "/var/lib", Destination: hostRoot + "/var/lib", Type: "bind", Options: []string{"rbind", "rslave", "rw"},
		},
		{
			Name: "run", Description: "docker.sock, and the agent's own socket",
			Source: "/run", Destination: hostRoot + "/run", Type: "bind", Options: []string{"rbind", "rslave", "rw"},
		},
		{
			Name: "proc", Description: "sysctls of network namespaces; the plugin's own /proc/sys is read-only",
			Source: "/proc", Destination: hostRoot + "/proc", Type: "bind", Options: []string{"rbind", "rslave", "rw"},
		},
	}
}
