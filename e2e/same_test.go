package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/lab"
)

// TestIntegrationNetworksLookTheSame: docker network inspect shows the same on all hosts, whatever
// flags the network was created with, except for values that are a host's own (looks).
func TestIntegrationNetworksLookTheSame(t *testing.T) {
	s := onMembers(t)
	for own, args := range map[string][]string{
		"plain": nil,
		"flags": {
			"--subnet", "10.64.32.0/22", "--ip-range", "10.64.33.0/24", "--gateway", "10.64.32.9", "--aux-address", "router=10.64.32.10",
			"--aux-address", "printer=10.64.32.11", "--ipam-opt", "weft.block=/28", "-o", "weft.mtu=1380", "-o", "weft.multicast=false",
			"--label", "com.docker.compose.network=default", "--label", "note=two words", "--label", "empty=", "--attachable",
		},
		"both": {
			"--ipv6", "--subnet", "10.64.36.0/24", "--subnet", "fd64:36::/64", "--gateway", "fd64:36::9", "--ip-range", "fd64:36::1:0/112",
			"--aux-address", "six=fd64:36::10", "-o", "com.example.note=not Weft's", "--internal",
		},
	} {
		s.looksTheSame(s.network(s.lab.Host(1), own, args...))
	}
}

// TestIntegrationConfigFrom: a network made with --config-from has the values of its --config-only
// network on every host. Only the host that has that network shows where they are from.
func TestIntegrationConfigFrom(t *testing.T) {
	s := onMembers(t)
	one := s.lab.Host(1)
	name, conf := s.of(one, "from"), s.of(one, "conf") // and are removed in this order
	s.docker(one, "network", "create", "--config-only", "--ipam-driver", lab.PluginName, "--subnet", "10.64.40.0/24", "--gateway", "10.64.40.9", "--label", "note=conf", conf)
	s.docker(one, "network", "create", "-d", lab.PluginName, "--config-from", conf, name)
	if got := s.everywhere(name); !slices.Equal(got, []string{"10.64.40.0/24"}) {
		t.Errorf("the network has subnets %q", got)
	}
	s.looksTheSame(name)
	s.matrix(s.runOnAll(name, "box")...)
}

// TestIntegrationMadeAnewWithOtherOptions: a user removes a network and creates it again with the same
// subnet and other options. All hosts show the new options, also one with a stopped container on the
// network. On a host with a running one, a PROBLEM names that container until it stops.
func TestIntegrationMadeAnewWithOtherOptions(t *testing.T) {
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	subnet := []string{"--subnet", "10.64.44.0/24"}
	name := s.network(one, "anew", append(subnet, "--ip-range", "10.64.44.0/25", "-o", "com.example.note=first")...)
	s.docker(two, "run", "--name", s.name("batch"), "--net", name, lab.BusyBoxImage, "true")
	box := s.run(three, name, "box")
	s.docker(one, "network", "rm", name)
	s.docker(one, append([]string{"network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName, "--ip-range", "10.64.44.128/25", "-o", "com.example.note=second", name}, subnet...)...)
	want := s.looks(one, name)
	same := func(h *lab.Host) {
		t.Helper()
		eventually(t, spreadWithin, func(ctx context.Context) error {
			got, err := looksNow(ctx, h, name)
			if diff := cmp.Diff(want, got); err == nil && diff != "" {
				err = fmt.Errorf("on %s (-want +got):\n%s", h.Name(), diff)
			}
			return err
		})
	}
	same(two)
	eventually(t, spreadWithin, s.problem(three, "network "+name+" was made anew", box.name, "docker network disconnect"))
	s.docker(three, "rm", "-f", box.name)
	same(three)
	s.matrix(s.runOnAll(name, "b")...)
}

// looksTheSame compares what every member shows of a network with what the first host does,
// which created it.
func (s *scene) looksTheSame(name string) {
	s.t.Helper()
	want := s.looks(s.lab.Host(1), name)
	for _, h := range s.members() {
		if diff := cmp.Diff(want, s.looks(h, name)); diff != "" {
			s.t.Errorf("%s on %s differs from what was created (-want +got):\n%s", name, h.Name(), diff)
		}
	}
}

// looks is what Docker shows of a network, without what is a host's own: id, time, containers,
// the mark of a replica and the --config-only network.
func (s *scene) looks(h *lab.Host, network string) map[string]any {
	s.t.Helper()
	shown, err := looksNow(s.t.Context(), h, network)
	must(s.t, err)
	return shown
}

// looksNow is looks; it fails where Docker has no such network.
func looksNow(ctx context.Context, h *lab.Host, network string) (map[string]any, error) {
	text, err := h.Docker(ctx, "network", "inspect", network)
	if err != nil {
		return nil, err
	}
	var shown []map[string]any
	if err := json.Unmarshal([]byte(text), &shown); err != nil {
		return nil, fmt.Errorf("network inspect on %s: %w", h.Name(), err)
	}
	if len(shown) != 1 {
		return nil, fmt.Errorf("network inspect on %s shows %d networks", h.Name(), len(shown))
	}
	for _, own := range []string{"Id", "Created", "Containers", "Status", "ConfigFrom"} {
		delete(shown[0], own)
	}
	if options, is := shown[0]["Options"].(map[string]any); is {
		delete(options, dockerapi.ReplicaOption)
		if len(options) == 0 {
			shown[0]["Options"] = nil
		}
	}
	return shown[0], nil
}

// TestIntegrationPruneOnAReplica takes the network from no other host, and the replica comes
// back; weft network rm removes it from any host. The filter keeps other tests' networks.
func TestIntegrationPruneOnAReplica(t *testing.T) {
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	label := s.name("prune")
	name := s.network(one, "pruned", "--label", label)
	first := s.idOf(two, name)
	s.docker(two, "network", "prune", "-f", "--filter", "label="+label)
	s.renewed(two, name, first)
	for _, h := range []*lab.Host{one, three} {
		s.idOf(h, name)
	}
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	for _, b := range boxes {
		s.docker(b.host, "rm", "-f", b.name)
	}
	s.weftDoes(two, []string{name}, "network", "rm", "--dry-run", name)
	s.weftDoes(two, []string{name}, "network", "rm", name)
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.noneLeft(ctx, name) })
}
