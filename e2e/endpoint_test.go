package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/netmap"
)

// pod is a network namespace on a host that Docker does not know, with an endpoint that the agent made
// on request at its own socket, as a CNI plugin would make it.
type pod struct {
	s    *scene
	host *lab.Host
	ns   string
	ask  api.AttachRequest
	got  *api.Attachment
}

// agent is the agent's own socket on a host.
func (s *scene) agent(h *lab.Host) api.Client {
	s.t.Helper()
	root, err := h.Root()
	must(s.t, err)
	return api.At(root + api.SocketPath)
}

// pod makes a namespace, asks the agent for an endpoint on a network, and moves the
// interface into the namespace.
func (s *scene) pod(h *lab.Host, network, name string) *pod {
	s.t.Helper()
	p := &pod{s: s, host: h, ns: s.prefix + name, ask: api.AttachRequest{
		Owner: netmap.OwnerCNI, Network: network, Container: s.name(name),
		Endpoint: netmap.EndpointID(fmt.Sprintf("%x", sha256.Sum256([]byte(s.name(name))))),
	}}
	p.got = p.attach()
	link := p.got.Interface
	p.sh("ip netns add %[1]s && ip link set %[2]s netns %[1]s && ip -n %[1]s link set %[2]s name eth0 && ip -n %[1]s addr add %[3]s dev eth0 && ip -n %[1]s link set eth0 up", p.ns, link, p.got.Addrs[0])
	return p
}

func (p *pod) attach() *api.Attachment {
	p.s.t.Helper()
	got, err := p.s.agent(p.host).AttachEndpoint(p.s.t.Context(), p.ask)
	must(p.s.t, err)
	return got
}

func (p *pod) addr() netip.Addr { return p.got.Addrs[0].Addr() }

func (p *pod) sh(format string, args ...any) {
	p.s.t.Helper()
	_, err := p.host.Exec(p.s.t.Context(), "sh", "-ec", fmt.Sprintf(format, args...))
	must(p.s.t, err)
}

// reaches waits until a container and the pod get answers from each other.
func (p *pod) reaches(boxes ...box) {
	p.s.t.Helper()
	eventually(p.s.t, healWithin, func(ctx context.Context) error {
		for _, b := range boxes {
			if _, err := p.host.Exec(ctx, "nsenter", "--net=/run/netns/"+p.ns, "busybox", "ping", "-c", "1", "-W", "1", b.addr.String()); err != nil {
				return err
			}
			if _, err := b.exec(ctx, "ping", "-c", "1", "-W", "1", p.addr().String()); err != nil {
				return err
			}
		}
		return nil
	})
}

// gone deletes the namespace and has the agent give the endpoint up.
func (p *pod) gone() {
	p.s.t.Helper()
	p.sh("ip netns del %s", p.ns)
	for range 2 {
		_, err := p.s.agent(p.host).DetachEndpoint(p.s.t.Context(), api.DetachRequest{Owner: p.ask.Owner, Endpoint: p.ask.Endpoint})
		must(p.s.t, err)
	}
}

// TestIntegrationAContainerWithoutDocker: a namespace that Docker did not make is on one network with
// Docker's containers on every host. It stays connected when the agent is killed and when Docker
// removes the network on its host. Its address is free when it is detached.
func TestIntegrationAContainerWithoutDocker(t *testing.T) {
	s := onMembersAlone(t) // it kills an agent
	two := s.lab.Host(2)
	name := s.network(s.lab.Host(1), "mixed")
	boxes := s.runOnAll(name, "box")
	p := s.pod(two, name, "pod")
	s.unique(append(boxes, box{two, p.ns, p.addr()})...)
	p.reaches(boxes...)
	s.refused(s.lab.Host(3), []string{p.addr().String(), "held", s.name("pod"), two.Name()}, s.command(s.lab.Host(3), name, "thief", "--ip", p.addr().String())...)

	must(t, two.KillAgent(t.Context()))
	eventually(t, healWithin, s.allMembers)
	if again := p.attach(); again.Interface != p.got.Interface || again.Addrs[0] != p.got.Addrs[0] {
		t.Errorf("after the agent was killed it got %+v, had %+v", again, p.got)
	}
	p.reaches(boxes...)

	s.docker(two, "rm", "-f", boxes[1].name)
	s.docker(two, "network", "rm", name) // a replica, which its agent makes again
	p.reaches(boxes[0], boxes[2])
	s.everywhere(name)
	p.gone()
	s.seen(name, func(_ *api.Report, n api.Network) error {
		for _, e := range n.Endpoints {
			if e.V4 == p.addr() || strings.HasPrefix(e.Name, s.name("pod")) {
				return fmt.Errorf("it sees %+v still", e)
			}
		}
		return nil
	})
	s.reach(boxes[0], s.runAt(s.lab.Host(3), name, "heir", p.addr().String()).addr)
}
