package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationGatewayBridgeStaysOffTheSubnets: docker_gwbridge exists before the first network, so
// a network with its subnet is refused. If a user moves it to the subnet of a network of the cluster,
// the host reports a problem, and the remedy in it works.
func TestIntegrationGatewayBridgeStaysOffTheSubnets(t *testing.T) {
	s := onSpares(t)
	a, b := s.spares()
	s.hosts = []*lab.Host{a, b}
	const bridge, subnet = "docker_gwbridge", "172.30.0.0/16"
	var subnets []string
	eventually(t, spreadWithin, func(ctx context.Context) (err error) {
		if subnets, err = subnetsOf(ctx, a, bridge); err == nil && len(subnets) != 1 {
			err = errors.New("docker_gwbridge has no subnet")
		}
		return err
	})
	inside := strings.TrimSuffix(subnets[0], "0.0/16") + "32.0/20"
	s.refused(a, []string{inside, subnets[0], bridge, "choose another --subnet"}, s.create(a, "inside", "--subnet", inside)...)

	// A user moves it on one host; a network is created on the other.
	s.docker(b, "network", "rm", bridge)
	s.docker(b, "network", "create", "--subnet", subnet, "-o", "com.docker.network.bridge.name="+bridge,
		"-o", "com.docker.network.bridge.enable_icc=false", "-o", "com.docker.network.bridge.enable_ip_masquerade=true", bridge)
	name := s.name("overlay")
	s.docker(a, s.create(a, "overlay", "--subnet", subnet)...)
	eventually(t, spreadWithin, s.problem(b, "no container can start on network "+name, bridge, subnet, "docker network rm "+bridge))
	s.docker(b, "network", "rm", bridge)
	eventually(t, 9*healWithin, has(b, name))
	s.matrix(s.run(a, name, "one"), s.run(b, name, "two"))
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.quiet(ctx, a, b) })
}
