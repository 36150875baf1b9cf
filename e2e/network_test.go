package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

func TestIntegrationNetworkAppearsEverywhere(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "overlay", "-o", "weft.mtu=1400", "--internal")
	for _, h := range s.members() {
		got := s.docker(h, "network", "inspect", "-f", `{{.Driver}} {{.IPAM.Driver}} {{.Internal}} {{index .Options "weft.mtu"}}`, name)
		if want := lab.PluginName + " " + lab.PluginName + " true 1400"; got != want {
			t.Errorf("on %s the network is %q, want %q", h.Name(), got, want)
		}
	}
	// The replicas are the same network: its containers have one address space.
	s.matrix(s.runOnAll(name, "box")...)
}

// TestIntegrationNetworkCreatedAtTheSameMoment: the network is created on all hosts at the same time,
// as with Ansible.
func TestIntegrationNetworkCreatedAtTheSameMoment(t *testing.T) {
	s := onMembers(t)
	for _, args := range [][]string{nil, {"--subnet", "10.64.0.0/24"}} {
		own := fmt.Sprintf("moment%d", len(args))
		must(t, each(s.members(), func(h *lab.Host) error {
			_, err := h.Docker(t.Context(), s.create(h, own, args...)...)
			if err != nil && (strings.Contains(err.Error(), "already exists") || strings.Contains(err.Error(), "in use on this host by Docker network")) {
				return nil // another host's came first, as a replica, or at this moment
			}
			return err
		}))
		name := s.name(own)
		subnets := s.everywhere(name)
		s.seen(name, func(_ *api.Report, n api.Network) error {
			if len(n.Subnets) != 1 || n.Subnets[0].Prefix.String() != subnets[0] {
				return fmt.Errorf("network %s has subnets %v, Docker says %q", name, n.Subnets, subnets)
			}
			return nil
		})
		for _, h := range s.members() {
			ids := s.docker(h, "network", "ls", "-q", "--filter", "name=^"+name+"$")
			if len(strings.Fields(ids)) != 1 {
				t.Errorf("%s has networks %q of the name %s, want one", h.Name(), ids, name)
			}
		}
		s.matrix(s.runOnAll(name, own+"-")...)
	}
}

// TestIntegrationNetworkRemovedEverywhere: a network that is removed on one host goes from the others
// at once where it is unused, else with its last container. Its name and its subnet are free again.
func TestIntegrationNetworkRemovedEverywhere(t *testing.T) {
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	name := s.network(one, "gone", "--subnet", "10.64.1.0/24")
	last := s.run(three, name, "last")
	other := s.run(three, name, "other")
	s.docker(one, "network", "rm", name)
	eventually(t, spreadWithin, func(ctx context.Context) error {
		for _, h := range []*lab.Host{one, two} {
			if names, err := h.Docker(ctx, "network", "ls", "-q", "--filter", "name=^"+name+"$"); err != nil || names != "" {
				return fmt.Errorf("%s still has it: %q, %w", h.Name(), names, err)
			}
		}
		return nil
	})
	if err := last.reaches(t.Context(), other.addr); err != nil {
		t.Errorf("where it is used it must stay: %v", err)
	}
	s.docker(three, "rm", "-f", last.name, other.name)
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.noneLeft(ctx, name) })
	s.network(one, "gone", "--subnet", "10.64.1.0/24")
	s.matrix(s.runOnAll(name, "again")...)
}

// TestIntegrationWithoutReplicas: without replicas, networks with the same subnet are the same one.
func TestIntegrationWithoutReplicas(t *testing.T) {
	s := onSpares(t)
	a, b := s.spares("WEFT_REPLICATE=false")
	const subnet = "10.64.2.0/24"
	s.docker(a, s.create(a, "here", "--subnet", subnet)...)
	s.docker(b, s.create(b, "there", "--subnet", subnet)...)
	s.matrix(s.run(a, s.name("here"), "a"), s.run(b, s.name("there"), "b"))
	for h, absent := range map[*lab.Host]string{a: "there", b: "here"} {
		if names := s.docker(h, "network", "ls", "--format", "{{.Name}}", "--filter", "name=^"+s.name(absent)); names != "" {
			t.Errorf("%s has a replica with WEFT_REPLICATE=false: %s", h.Name(), names)
		}
	}
	s.docker(a, s.create(a, "named-here", "-o", "weft.network=shared")...)
	s.refused(b, []string{"shared"}, s.create(b, "other", "--subnet", "10.64.3.0/24", "-o", "weft.network=shared")...)
}
