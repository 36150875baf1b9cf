package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/netmap"
)

// ofHost is the address that a host has itself on a network, by its own report.
func (s *scene) ofHost(ctx context.Context, h *lab.Host, network string) (netip.Addr, error) {
	r, err := s.wholeReport(ctx, h)
	if err != nil {
		return netip.Addr{}, err
	}
	n, _ := find(r, network)
	for _, e := range n.Endpoints {
		if e.ID == netmap.HostEndpoint(r.Self, n.ID) {
			return e.V4, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no address of its own on %s: %q", h.Name(), network, r.Problems)
}

// own waits for the address that a host has itself on a network.
func (s *scene) own(h *lab.Host, network string) (a netip.Addr) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) (err error) {
		a, err = s.ofHost(ctx, h, network)
		return err
	})
	return a
}

// pinged is nil if an address answers a host.
func pinged(ctx context.Context, h *lab.Host, to netip.Addr) error {
	_, err := h.Exec(ctx, "ping", "-c", "1", "-W", "1", to.String())
	return err
}

// fetches is what a host gets from a web server, and the error if it gets nothing.
func fetches(ctx context.Context, h *lab.Host, from netip.AddrPort) (string, error) {
	return h.Exec(ctx, "timeout", "3", "busybox", "wget", "-q", "-O", "-", "http://"+from.String()+"/")
}

// TestIntegrationHostsOnNetworks: a host with a container on a network reaches the containers of all
// hosts, and they reach it; so does one that WEFT_MEMBER_OF names the network for. Nothing gets from
// one network into another, with Docker's and Weft's firewall rules or without any.
func TestIntegrationHostsOnNetworks(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	ctx := t.Context()
	overlay, other, closed := s.name("overlay"), s.name("other"), s.name("closed")
	must(t, a.InstallPlugin(ctx, s.plugin))
	must(t, b.InstallPlugin(ctx, s.plugin, "WEFT_JOIN="+a.Addr4().String(), "WEFT_MEMBER_OF="+overlay))
	s.docker(a, s.create(a, "overlay")...)
	s.docker(a, s.create(a, "other")...)
	s.docker(a, s.create(a, "closed", "-o", "weft.host=false")...)
	eventually(t, spreadWithin, has(b, closed))

	web := s.run(a, overlay, "web", "-p", "18080:80")
	apart := s.run(a, other, "apart")
	s.run(a, closed, "quiet")
	onA, onB := s.own(a, overlay), s.own(b, overlay)
	onOther := s.own(a, other)
	eventually(t, healWithin, func(ctx context.Context) error {
		return errors.Join(pinged(ctx, a, web.addr), pinged(ctx, b, web.addr), pinged(ctx, b, onA), pinged(ctx, a, onB), pinged(ctx, a, apart.addr))
	})
	for _, to := range []netip.Addr{onA, onB} {
		if out, err := web.exec(ctx, "ping", "-c", "1", "-W", "1", to.String()); err != nil {
			t.Errorf("a container does not reach a host at %s: %v\n%s", to, err, out)
		}
	}
	if _, err := s.ofHost(ctx, a, closed); err == nil {
		t.Error("the host is on a network with weft.host=false")
	}
	if _, err := s.ofHost(ctx, b, other); err == nil {
		t.Error("a host without containers is on a network that WEFT_MEMBER_OF does not name")
	}

	// Docker's own bridge shows the client where the underlay's address is asked for.
	for what, at := range map[string]netip.AddrPort{
		"the underlay's address": netip.AddrPortFrom(a.Addr4(), 18080),
		"the host's address":     netip.AddrPortFrom(onA, 18080),
		"the container's":        netip.AddrPortFrom(web.addr, 80),
	} {
		if page, err := fetches(ctx, b, at); err != nil || page == "" {
			t.Errorf("%s: %q, %v", what, page, err)
		}
	}

	far := s.run(b, overlay, "far", "--cap-add", "NET_ADMIN")
	s.reach(far, web.addr)
	_, err := far.exec(ctx, "ip", "route", "add", other4(apart.addr), "via", onA.String())
	must(t, err)
	isolated := func(when string) {
		t.Helper()
		for what, from := range map[string]box{"a container of another network": web, "a container that routes by a host": far} {
			if out, err := from.exec(ctx, "ping", "-c", "1", "-W", "1", apart.addr.String()); err == nil {
				t.Errorf("%s: %s reaches %s\n%s", when, what, apart.addr, out)
			}
		}
		if _, err := b.Exec(ctx, "ip", "route", "replace", other4(apart.addr), "via", a.Addr4().String()); err != nil {
			t.Error(err)
		}
		if pinged(ctx, b, apart.addr) == nil || pinged(ctx, b, onOther) == nil {
			t.Errorf("%s: a machine that routes by a host's underlay address reaches what is on a network it is not on", when)
		}
		if _, err := b.Exec(ctx, "ip", "route", "del", other4(apart.addr), "via", a.Addr4().String()); err != nil { // else no later network gets that range here
			t.Error(err)
		}
	}
	isolated("at first")
	before := s.repaired(a)
	_, err = a.Exec(ctx, "sh", "-c", "nft flush ruleset; iptables -F; iptables -t nat -F; iptables -P FORWARD ACCEPT; ip rule del pref 795; ip link set $(ip -br link | grep -o '^wfc[0-9a-f]*' | head -1) down")
	must(t, err)
	isolated("after a flush")
	eventually(t, 11*time.Second, func(ctx context.Context) error {
		if s.repaired(a) == before {
			return errors.New("no repair was counted")
		}
		return errors.Join(pinged(ctx, a, web.addr), pinged(ctx, a, far.addr), pinged(ctx, a, apart.addr))
	})

	// Docker does not notice that its own rules are gone.
	eventually(t, healWithin, s.problem(a, "somebody has removed Docker's firewall rules", "systemctl restart docker"))
	s.liveRestore(a)
	eventually(t, healWithin, func(ctx context.Context) error { return s.quiet(ctx, a) })

	s.docker(a, "rm", "-f", web.name)
	eventually(t, 90*time.Second, func(ctx context.Context) error {
		if _, err := s.ofHost(ctx, a, overlay); err == nil {
			return errors.New("the host is still on a network that it has no container on")
		}
		return nil
	})
	if out, err := a.Exec(ctx, "ip", "route", "show", "table", "7950"); err != nil || strings.Contains(out, onA.String()) {
		t.Errorf("%v, left:\n%s", err, out)
	}
}

// other4 is the /24 around an address.
func other4(a netip.Addr) string {
	p, _ := a.Prefix(24) // of an IPv4 address there is one
	return p.String()
}

// repaired is how much a host's agent has put right.
func (s *scene) repaired(h *lab.Host) uint64 {
	s.t.Helper()
	r, err := s.report(s.t.Context(), h)
	must(s.t, err)
	return r.Datapath.Repaired
}

// proxy is a load balancer for what has a name, as a host's own programs find it.
const proxy = `
defaults
	mode http
	timeout connect 2s
	timeout client 5s
	timeout server 5s
	retries 3
	option redispatch
resolvers weft
	nameserver agent 127.0.0.54:53
	hold valid 1s
	hold obsolete 1s
	timeout resolve 500ms
frontend in
	bind 127.0.0.1:8088
	default_backend web
backend web
	balance roundrobin
	server-template web 4 %s:80 resolvers weft resolve-prefer ipv4 init-addr none check inter 500ms
`

// background runs a program on a host until the test ends.
func (s *scene) background(h *lab.Host, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var out strings.Builder
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, lab.Command{Args: args, Stdout: &out, Stderr: &out}) }()
	s.t.Cleanup(func() {
		select {
		case err := <-ended:
			s.t.Errorf("%s on %s ended by itself: %v\n%s", args[0], h.Name(), err, out.String())
		default:
			cancel()
			<-ended
		}
		cancel()
	})
}

// TestIntegrationAHostWithoutDocker: the agent runs as a plain service on a load balancer, which is a member of
// the network without containers: it finds them by name and reaches them by address.
func TestIntegrationAHostWithoutDocker(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	ctx := t.Context()
	must(t, a.InstallPlugin(ctx, s.plugin))
	s.docker(a, s.create(a, "overlay")...)
	overlay := s.name("overlay")
	must(t, b.StopDocker(ctx))
	t.Cleanup(func() {
		if err := b.StartDocker(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	s.background(b, s.plugin+"/rootfs/weft", "agent", "--join", a.Addr4().String(), "--member-of", overlay, "--dns-listen", "127.0.0.54:53")
	one := s.run(a, overlay, "one", "--network-alias", "site")
	two := s.run(a, overlay, "two", "--network-alias", "site")
	s.own(b, overlay)
	eventually(t, healWithin, func(ctx context.Context) error {
		return errors.Join(pinged(ctx, b, one.addr), pinged(ctx, b, two.addr))
	})
	if r, err := s.report(ctx, b); err != nil || len(r.Problems) > 0 {
		t.Errorf("problems %q, %v", r.Problems, err)
	}

	file := t.TempDir() + "/haproxy.cfg"
	must(t, os.WriteFile(file, fmt.Appendf(nil, proxy, "site."+overlay), 0o600))
	s.background(b, "haproxy", "-f", file)
	served := func(ctx context.Context, want ...string) error {
		seen := map[string]int{}
		for range 6 {
			page, err := fetches(ctx, b, netip.MustParseAddrPort("127.0.0.1:8088"))
			if err != nil {
				return err
			}
			seen[strings.TrimSpace(page)]++
		}
		if len(seen) != len(want) {
			return fmt.Errorf("the balancer leads to %v, want %q", seen, want)
		}
		return nil
	}
	eventually(t, healWithin, func(ctx context.Context) error { return served(ctx, "one", "two") })
	s.docker(a, "rm", "-f", one.name)
	eventually(t, healWithin, func(ctx context.Context) error { return served(ctx, "two") })
}
