package overlays

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// masterModules is the modules' own example of a master, with the agent module beside it as DC/OS has it.
const masterModules = `{"libraries":[{"file":"/opt/mesosphere/lib/libmesos_network_overlay.so","modules":[
 {"name":"com_mesosphere_mesos_OverlayMasterManager","parameters":[{"key":"master_config","value":"/etc/overlay/config/master.json"}]},
 {"name":"com_mesosphere_mesos_OverlayAgentManager","parameters":[{"key":"agent_config","value":"/etc/overlay/config/agent-master.json"}]}]}]}`

// agentModules names an agent's configuration.
const agentModules = `{"libraries":[{"file":"libmesos_network_overlay.so","modules":[
 {"name":"com_mesosphere_mesos_OverlayAgentManager","parameters":[{"key":"agent_config","value":"/etc/overlay/config/agent.json"}]}]},
 {"file":"libother.so","modules":[{"name":"com_acme_Other"}]}]}`

var files = map[string]string{
	"/etc/overlay/config/master.json":       dcos,
	"/etc/overlay/config/agent-master.json": `{"master":"zk://zk-1.zk:2181/mesos","cni_dir":"/opt/mesosphere/etc/dcos/network/cni","network_config":{"allocate_subnet":true,"mesos_bridge":false,"docker_bridge":false,"overlay_mtu":1420,"enable_ipv6":true},"max_configuration_attempts":5}`,
	"/etc/overlay/config/agent.json":        `{"master":"leader.mesos:5050","cni_dir":"/opt/mesosphere/etc/dcos/network/cni","cni_data_dir":"/var/run/dcos/cni/networks","network_config":{"enable_ipv6":false}}`,
}

func readFile(path string) ([]byte, error) {
	if text, ok := files[path]; ok {
		return []byte(text), nil
	}
	return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
}

func TestImport(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string // settings, in this order
		notes      []string // parts of remarks
	}{
		{
			"a master", masterModules,
			[]string{"WEFT_OVERLAYS=/etc/overlay/config/master.json", "WEFT_MEMBER_OF=all"},
			[]string{"replicated_log_dir, replicated_log_timeout, zk: not needed", "copy /etc/overlay/config/master.json to every host", "master zk://zk-1.zk:2181/mesos: Weft asks the masters", "overlay_mtu=1420"},
		},
		{
			"an agent", agentModules,
			[]string{"WEFT_JOIN=mesos+http://leader.mesos:5050", "WEFT_CNI_DIR=/opt/mesosphere/etc/dcos/network/cni"},
			[]string{"enable_ipv6=false: leave subnet6 out", "module com_acme_Other is none of the overlay's"},
		},
		{
			"the first releases", `{"libraries":[{"modules":[{"name":"com_mesosphere_mesos_AgentOverlayHelper","parameters":[{"key":"master","value":"localhost:5050"},{"key":"cni_dir","value":"/var/lib/mesos/cni"},{"key":"x","value":"y"}]},
			 {"name":"com_mesosphere_mesos_MasterOverlayHelper","parameters":[{"key":"overlays","value":"/var/lib/mesos/overlay-config.json"}]}]}]}`,
			[]string{"WEFT_JOIN=mesos+http://localhost:5050", "WEFT_CNI_DIR=/var/lib/mesos/cni", "WEFT_OVERLAYS=/var/lib/mesos/overlay-config.json"},
			[]string{"parameter x=y means nothing on Weft", "open /var/lib/mesos/overlay-config.json: file does not exist: run this where the file is"},
		},
	} {
		lines, err := Import([]byte(c.file), readFile)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, note := range c.notes {
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "# ") && strings.Contains(l, note) }) {
				t.Errorf("%s: no remark %q in %q", c.name, note, lines)
			}
		}
		settings := slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "#") })
		if diff := cmp.Diff(c.want, settings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	files["/bad.json"] = strings.Replace(bare, "mz-overlay", "host", 1)
	for file, want := range map[string]string{
		"":   "it is no file for Mesos' --modules",
		bare: "it names no overlay module",
		`{"libraries":[{"modules":[{"name":"com_acme_Other"}]}]}`:                         "it names no overlay module",
		strings.Replace(masterModules, "/etc/overlay/config/master.json", "/bad.json", 1): "module com_mesosphere_mesos_OverlayMasterManager: master_config=/bad.json: Overlay network name: host is a reserved network name",
	} {
		if _, err := Import([]byte(file), readFile); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %q", file, err, want)
		}
	}
}
