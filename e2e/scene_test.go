package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// serving is the command of the containers of these tests: a page with their name on port 80, and the
// probe's server, which ends at once on a signal.
const serving = "hostname >/www/index.html; httpd -p 80 -h /www; exec probe serve"

// scenes numbers scenes, so that a test can run twice.
var scenes atomic.Int32

// scene has the networks and containers of one test. Their names are unique, and they are removed when
// the test ends.
type scene struct {
	*rig
	t      *testing.T
	prefix string

	hosts   []*lab.Host // its cluster, if that is not the members'
	working bool        // it has a place
	began   time.Time   // of that

	mu       sync.Mutex
	boxes    map[int][]string // containers by host
	networks map[int][]string // created by hand, by host
}

// box is a container on a network.
type box struct {
	host *lab.Host
	name string
	addr netip.Addr // on the network that it was started on
}

// stage begins a test on the shared lab.
func stage(t *testing.T) *scene {
	t.Helper()
	s := &scene{rig: up(t), t: t, boxes: map[int][]string{}, networks: map[int][]string{}}
	s.prefix = fmt.Sprintf("t%d-", scenes.Add(1))
	t.Cleanup(s.rest)
	t.Cleanup(s.clear)
	return s
}

// clear removes what the test made. After a test that went well, its networks must
// be gone from every member soon.
func (s *scene) clear() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
	defer cancel()
	err := each(s.lab.Hosts(), func(h *lab.Host) error {
		for _, name := range s.boxes[h.Number()] {
			if _, err := request(ctx, h, http.MethodDelete, "/containers/"+name+"?force=1", ""); err != nil {
				s.t.Log(err) // it may be gone already
			}
		}
		return nil
	})
	var networks []string
	for n, names := range s.networks {
		networks = append(networks, names...)
		for _, name := range names {
			_, err := request(ctx, s.lab.Host(n), http.MethodDelete, "/networks/"+name, "")
			if err != nil && !unknownNetwork(err) {
				s.t.Error(err)
			}
		}
	}
	if err != nil || s.t.Failed() || len(networks) == 0 {
		return
	}
	s.hosts = nil // they have been wiped
	if err := await(ctx, spreadWithin, func(ctx context.Context) error { return s.noneLeft(ctx, networks...) }); err != nil {
		s.t.Error(err)
	}
}

// members are the hosts of the cluster that the test works with.
func (s *scene) members() []*lab.Host {
	if s.hosts != nil {
		return s.hosts
	}
	return s.rig.members()
}

// unknownNetwork reports whether Docker says that there is no such network, in the
// words of 20.10 or of later engines.
func unknownNetwork(err error) bool {
	said := strings.ToLower(err.Error())
	return strings.Contains(said, "no such network") || strings.Contains(said, "not found")
}

// noneLeft returns nil if no member has these networks any more.
func (s *scene) noneLeft(ctx context.Context, networks ...string) error {
	return each(s.members(), func(h *lab.Host) error {
		report, err := s.report(ctx, h)
		if err != nil {
			return err
		}
		for _, n := range report.Networks {
			if slices.Contains(networks, n.Name) {
				return fmt.Errorf("the agent of %s knows network %s, which was removed", h.Name(), n.Name)
			}
		}
		all, err := inspect[[]struct{ Name string }](ctx, h, "/networks")
		for _, n := range all {
			if slices.Contains(networks, n.Name) {
				return fmt.Errorf("docker of %s has network %s, which was removed", h.Name(), n.Name)
			}
		}
		return err
	})
}

// name makes a name this test's own.
func (s *scene) name(name string) string { return s.prefix + name }

// docker runs a docker command that must work.
func (s *scene) docker(h *lab.Host, args ...string) string {
	s.t.Helper()
	out, err := h.Docker(s.t.Context(), args...)
	must(s.t, err)
	return out
}

// refused runs a docker command that must be refused in time, with an answer that
// has all these words in it.
func (s *scene) refused(h *lab.Host, words []string, args ...string) {
	s.t.Helper()
	began := time.Now()
	out, err := h.Docker(s.t.Context(), args...)
	took := time.Since(began)
	if err == nil {
		s.t.Errorf("%s: docker %s was accepted: %s", h.Name(), strings.Join(args, " "), out)
		return
	}
	_, said, _ := strings.Cut(err.Error(), "exit status") // what comes before repeats the question
	s.t.Logf("refused after %.2f s: %s", took.Seconds(), said)
	for _, word := range words {
		if !strings.Contains(said, word) {
			s.t.Errorf("%v\nsays no %q", err, word)
		}
	}
	if took > 2*answerWithin { // with the docker command's own start; answers looks at the agents' part
		s.t.Errorf("%v\nafter %v, want an answer within %v", err, took, 2*answerWithin)
	}
}

// create are the arguments that create a network of this test's.
func (s *scene) create(h *lab.Host, name string, args ...string) []string {
	out := []string{"network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName}
	return append(append(out, args...), s.of(h, name))
}

// of is the name of a network that the test makes on a host, where it is removed at the end.
func (s *scene) of(h *lab.Host, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.networks[h.Number()] = append(s.networks[h.Number()], s.name(name))
	return s.name(name)
}

// network creates a network on a host and waits until every member has it. It
// returns its name.
func (s *scene) network(h *lab.Host, name string, args ...string) string {
	s.t.Helper()
	s.docker(h, s.create(h, name, args...)...)
	s.everywhere(s.name(name))
	return s.name(name)
}

// everywhere waits until every member's Docker has the network, with the same
// subnets, which it returns.
func (s *scene) everywhere(network string) []string {
	s.t.Helper()
	var subnets []string
	eventually(s.t, spreadWithin, func(ctx context.Context) error {
		subnets = nil
		for _, h := range s.members() {
			got, err := subnetsOf(ctx, h, network)
			if err != nil {
				return err
			}
			if subnets == nil {
				subnets = got
			}
			if !slices.Equal(got, subnets) {
				return fmt.Errorf("network %s has subnets %q on %s, %q on host 1", network, got, h.Name(), subnets)
			}
		}
		return nil
	})
	return subnets
}

// has looks whether a host's Docker has a network.
func has(h *lab.Host, network string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := subnetsOf(ctx, h, network)
		return err
	}
}

// subnetsOf asks a host's Docker for the subnets of a network.
func subnetsOf(ctx context.Context, h *lab.Host, network string) ([]string, error) {
	got, err := inspect[struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}](ctx, h, "/networks/"+network)
	var out []string
	for _, c := range got.IPAM.Config {
		out = append(out, c.Subnet)
	}
	return out, err
}

// command are the arguments that start a container of this test's.
func (s *scene) command(h *lab.Host, network, name string, args ...string) []string {
	s.mu.Lock()
	s.boxes[h.Number()] = append(s.boxes[h.Number()], s.name(name))
	s.mu.Unlock()
	out := []string{"run", "-d", "--name", s.name(name), "--hostname", name, "--net", network}
	return append(append(out, args...), lab.BusyBoxImage, "sh", "-c", serving)
}

// run starts a container that serves.
func (s *scene) run(h *lab.Host, network, name string, args ...string) box {
	s.t.Helper()
	s.docker(h, s.command(h, network, name, args...)...)
	return box{h, s.name(name), s.addr(h, s.name(name), network)}
}

// runOnAll starts a container on every member at once, b1 to b3 on hosts 1 to 3.
func (s *scene) runOnAll(network, name string, args ...string) []box {
	s.t.Helper()
	out := make([]box, members)
	first := s.members()[0].Number()
	must(s.t, each(s.members(), func(h *lab.Host) error {
		own := fmt.Sprintf("%s%d", name, h.Number())
		if _, err := h.Docker(s.t.Context(), s.command(h, network, own, args...)...); err != nil {
			return err
		}
		addr, err := addrOf(s.t.Context(), h, s.name(own), network)
		out[h.Number()-first] = box{h, s.name(own), addr}
		return err
	}))
	return out
}

// addr is a container's address on a network.
func (s *scene) addr(h *lab.Host, name, network string) netip.Addr {
	s.t.Helper()
	a, err := addrOf(s.t.Context(), h, name, network)
	must(s.t, err)
	return a
}

func addrOf(ctx context.Context, h *lab.Host, name, network string) (netip.Addr, error) {
	got, err := inspect[struct {
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}](ctx, h, "/containers/"+name+"/json")
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(got.NetworkSettings.Networks[network].IPAddress)
}

// exec runs a program in a container.
func (b box) exec(ctx context.Context, args ...string) (string, error) {
	return b.host.Docker(ctx, append([]string{"exec", b.name}, args...)...)
}

// unreachable returns those of the addresses whose probe servers do not answer a container.
func (b box) unreachable(ctx context.Context, addrs ...netip.Addr) ([]string, error) {
	args := []string{"probe", "ping", "-count", "2"}
	for _, a := range addrs {
		args = append(args, netip.AddrPortFrom(a, 7000).String())
	}
	out, err := b.exec(ctx, args...)
	if err != nil {
		return nil, err
	}
	var row []probe.Reach
	if err := json.Unmarshal([]byte(out), &row); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var silent []string
	for _, r := range row {
		if r.Received == 0 {
			silent = append(silent, r.Target)
		}
	}
	return silent, nil
}

// reach waits until a container gets answers from all these addresses.
func (s *scene) reach(from box, addrs ...netip.Addr) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) error { return from.reaches(ctx, addrs...) })
}

// reaches is nil when a container gets answers from all these addresses.
func (b box) reaches(ctx context.Context, addrs ...netip.Addr) error {
	silent, err := b.unreachable(ctx, addrs...)
	if err == nil && len(silent) > 0 {
		err = fmt.Errorf("%s on %s gets no answer from %q", b.name, b.host.Name(), silent)
	}
	return err
}

// apart checks that a container gets no answer from these addresses. The caller has checked that they
// answer other containers.
func (s *scene) apart(from box, addrs ...netip.Addr) {
	s.t.Helper()
	silent, err := from.unreachable(s.t.Context(), addrs...)
	must(s.t, err)
	if len(silent) != len(addrs) {
		s.t.Errorf("%s on %s reaches some of %s, it should reach none; silent were %q", from.name, from.host.Name(), addrs, silent)
	}
}

// matrix checks that every container reaches every other.
func (s *scene) matrix(boxes ...box) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) error { return matrix(ctx, boxes...) })
}

func matrix(ctx context.Context, boxes ...box) error {
	var to []netip.Addr
	for _, b := range boxes {
		to = append(to, b.addr)
	}
	errs := make([]error, len(boxes))
	var all sync.WaitGroup
	for i, from := range boxes {
		all.Go(func() { errs[i] = from.reaches(ctx, to...) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// page checks that a container fetches another's page.
func (s *scene) page(from box, addr netip.Addr, want string) {
	s.t.Helper()
	out, err := from.exec(s.t.Context(), "timeout", "3", "wget", "-q", "-O", "-", "http://"+netip.AddrPortFrom(addr, 80).String()+"/")
	if err != nil || out != want {
		s.t.Errorf("%s on %s fetched %q from %s, want %q (%v)", from.name, from.host.Name(), out, addr, want, err)
	}
}

// find is a network of a report by its name in Docker.
func find(r *api.Report, name string) (api.Network, bool) {
	i := slices.IndexFunc(r.Networks, func(n api.Network) bool { return n.Name == name })
	if i < 0 {
		return api.Network{}, false
	}
	return r.Networks[i], true
}

// seen waits until the report of every member's agent about a network is right.
func (s *scene) seen(network string, right func(*api.Report, api.Network) error) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) error {
		return each(s.members(), func(h *lab.Host) error {
			report, err := s.report(ctx, h)
			if err != nil {
				return err
			}
			n, ok := find(report, network)
			if !ok {
				return fmt.Errorf("the agent of %s does not know network %s", h.Name(), network)
			}
			if err := right(report, n); err != nil {
				return fmt.Errorf("the agent of %s: %w", h.Name(), err)
			}
			return nil
		})
	})
}
