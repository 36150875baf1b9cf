package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// settlesWithin is how long an agent may know an endpoint that Docker deleted while no agent ran, or hold an
// address that Docker requested and did not use.
const settlesWithin = 4 * time.Minute

// healed checks what holds after all faults: all is well and equal everywhere, the kernel too, and everything
// reaches everything by address and by name.
func (c *chaos) healed() {
	c.t.Helper()
	began := time.Now()
	eventually(c.t, 3*healWithin, c.well)
	well := time.Now()
	eventually(c.t, healWithin, c.equal)
	eventually(c.t, healWithin, func(ctx context.Context) error {
		return each(c.members(), func(h *lab.Host) error { return c.kernel(ctx, h) })
	})
	c.t.Logf("all was well %.1f s after the chaos, and equal %.1f s later", well.Sub(began).Seconds(), time.Since(well).Seconds())
	eventually(c.t, settlesWithin, c.exact)
	c.t.Logf("the agents know what Docker runs, and nothing else, %.1f s after the chaos", time.Since(began).Seconds())
	boxes := c.running()
	c.inside(boxes)
	six := c.addrs6(c.network, c.subnet6, boxes...)
	// The kernel was right in time; from here on it is Docker that needs it.
	eventually(c.t, time.Minute, func(ctx context.Context) error { return matrix(ctx, boxes...) })
	for _, b := range c.steady {
		eventually(c.t, time.Minute, func(ctx context.Context) error { return b.reaches(ctx, six...) })
		for _, other := range boxes {
			c.answered(b, other.name, other.addr.String())
		}
		eventually(c.t, healWithin, func(ctx context.Context) error {
			for _, other := range boxes {
				if err := pinged(ctx, b.host, other.addr); err != nil {
					return err
				}
			}
			return nil
		})
	}
	c.t.Logf("%d containers have addresses of their own and reach each other, by name too; all hosts reach them", len(boxes))
}

// well is nil when every host is ready, sees all alive and has no problem.
func (c *chaos) well(ctx context.Context) error {
	return each(c.members(), func(h *lab.Host) error {
		report, err := c.report(ctx, h)
		if err != nil {
			return err
		}
		alive := 0
		for _, k := range report.Hosts {
			if k.State == "alive" {
				alive++
			}
		}
		if report.State != "ready" || alive != members || report.Datapath.Error != "" || len(report.Problems) > 0 {
			return fmt.Errorf("%s is %s and sees %d hosts alive; datapath %q, problems %q", h.Name(), report.State, alive, report.Datapath.Error, report.Problems)
		}
		return nil
	})
}

// equal is nil when all agents say the same about all networks.
func (c *chaos) equal(ctx context.Context) error {
	var first []string
	for _, h := range c.members() {
		report, err := c.wholeReport(ctx, h)
		if err != nil {
			return err
		}
		var said []string
		for _, n := range report.Networks {
			said = append(said, n.Name+": "+told(n))
		}
		if first == nil {
			first = said
		}
		if diff := cmp.Diff(first, said); diff != "" {
			return fmt.Errorf("%s says something else than %s (-first +this):\n%s", h.Name(), c.members()[0].Name(), diff)
		}
	}
	return nil
}

// exact is nil when the agents know the endpoints of the containers that Docker runs, and no others.
func (c *chaos) exact(ctx context.Context) error {
	if _, err := c.known(ctx, c.network); err != nil {
		return err
	}
	return each(c.members(), func(h *lab.Host) error {
		report, err := c.report(ctx, h)
		if err != nil {
			return err
		}
		for _, n := range report.Networks {
			boxes, err := c.dockersSay(ctx, n.Name)
			if err != nil {
				return err
			}
			for _, e := range told4(report, n.Name) {
				if !slices.Contains(boxes, e) {
					return fmt.Errorf("the agent of %s knows %v on %s; Docker runs %v", h.Name(), e, n.Name, boxes)
				}
			}
		}
		return nil
	})
}

// running are all containers on the network.
func (c *chaos) running() (out []box) {
	c.t.Helper()
	list, err := c.known(c.t.Context(), c.network)
	must(c.t, err)
	for _, e := range list {
		i := slices.IndexFunc(c.members(), func(h *lab.Host) bool { return h.Name() == e.host })
		out = append(out, box{c.members()[i], e.name, e.addr})
	}
	for i, b := range c.steady { // Docker started those of the frail host again
		c.steady[i].addr = c.addr(b.host, b.name, c.network)
	}
	return out
}

// inside checks the addresses that containers see themselves: those that Docker says, each once.
func (c *chaos) inside(boxes []box) {
	c.t.Helper()
	c.unique(boxes...)
	seen := map[string]string{}
	for i, six := range c.addrs6(c.network, c.subnet6, boxes...) {
		b := boxes[i]
		out, err := b.exec(c.t.Context(), "ip", "-o", "addr", "show", "scope", "global")
		must(c.t, err)
		var own []string
		for line := range strings.Lines(out) {
			addr := strings.Fields(line)[3]
			if p := netip.MustParsePrefix(addr); p.Addr() == six || c.subnet.Contains(p.Addr()) || c.subnet6.Contains(p.Addr()) {
				own = append(own, p.Addr().String())
				if other, taken := seen[addr]; taken {
					c.t.Errorf("%s is in %s and in %s", addr, b.name, other)
				}
				seen[addr] = b.name
			}
		}
		if want := []string{b.addr.String(), six.String()}; !slices.Equal(own, want) {
			c.t.Errorf("%s on %s has %q, Docker says %q", b.name, b.host.Name(), own, want)
		}
	}
}

// kernel is nil when the overlay namespace of a host has what its agent's report says, and nothing else: bridges,
// ports, forwarding entries and neighbours.
func (c *chaos) kernel(ctx context.Context, h *lab.Host) error {
	report, err := c.wholeReport(ctx, h)
	if err != nil {
		return err
	}
	out, err := h.Exec(ctx, "nsenter", "--net=/run/weft/netns/overlay", "sh", "-c", "ip -br link | sed 's/^/link /'; bridge fdb show | sed 's/^/fdb /'; ip neigh show | sed 's/^/neigh /'")
	if err != nil {
		return err
	}
	if diff := cmp.Diff(expected(report), present(out)); diff != "" {
		return fmt.Errorf("the kernel of %s differs from its report (-report +kernel):\n%s", h.Name(), diff)
	}
	return nil
}

// expected is the overlay namespace of the host whose report that is.
func expected(r *api.Report) (out []string) {
	underlay := map[string]string{}
	for _, k := range r.Hosts {
		underlay[k.ID.String()] = k.Underlay.Addr().String()
	}
	for _, n := range r.Networks {
		if n.MTU == 0 { // the host takes no part
			continue
		}
		bridge, tunnel := fmt.Sprintf("wfb%x", uint32(n.VNI)), fmt.Sprintf("wfx%x", uint32(n.VNI))
		out = append(out, "link "+bridge, "link "+tunnel)
		for _, e := range n.Endpoints {
			for _, a := range []netip.Addr{e.V4, e.V6} {
				if a.IsValid() {
					out = append(out, fmt.Sprintf("neigh %s %s %s", a, bridge, e.MAC))
				}
			}
			if e.Host == r.Self {
				port := fmt.Sprintf("wfp%.12s", e.ID)
				out = append(out, "link "+port, fmt.Sprintf("fdb %s %s", e.MAC, port))
				continue
			}
			at := underlay[e.Host.String()]
			out = append(out, fmt.Sprintf("fdb %s %s to %s", e.MAC, tunnel, at), fmt.Sprintf("fdb 00:00:00:00:00:00 %s to %s", tunnel, at))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// present is the same as the programs ip and bridge print it.
func present(text string) (out []string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		word := func(before string) string {
			if i := slices.Index(f, before); i >= 0 && i+1 < len(f) {
				return f[i+1]
			}
			return ""
		}
		dev, _, _ := strings.Cut(word("dev"), "@")
		switch {
		case f[0] == "link" && f[1] != "lo":
			name, _, _ := strings.Cut(f[1], "@")
			out = append(out, "link "+name)
		case f[0] == "neigh" && slices.Contains(f, "PERMANENT"):
			out = append(out, fmt.Sprintf("neigh %s %s %s", f[1], dev, word("lladdr")))
		case f[0] == "fdb" && word("dst") != "":
			out = append(out, fmt.Sprintf("fdb %s %s to %s", f[1], dev, word("dst")))
		case f[0] == "fdb" && strings.HasPrefix(dev, "wfp") && slices.Contains(f, "master") && slices.Contains(f, "static"):
			out = append(out, fmt.Sprintf("fdb %s %s", f[1], dev))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// neverTwice checks the whole past of the network, as the agents tell it: no address was of two endpoints
// at one time.
func (c *chaos) neverTwice() {
	c.t.Helper()
	for _, space := range []netip.Prefix{c.subnet, c.subnet6} {
		past, err := c.agent(c.members()[0]).History(c.t.Context(), api.HistoryQuery{Space: space, Since: c.began})
		must(c.t, err)
		if len(past.Missing) > 0 || len(past.Forgotten) > 0 {
			c.t.Errorf("of the past of %s is missing %q, forgotten %v", space, past.Missing, past.Forgotten)
		}
		holds := map[netip.Prefix]api.HistoryLine{}
		count := 0
		for _, line := range past.Lines { // the oldest first
			for _, a := range []netip.Prefix{line.Space, line.V6} {
				if line.What != "endpoint" || !a.IsValid() {
					continue
				}
				count++
				if before, was := holds[a]; was && (before.Ended.IsZero() || before.Ended.After(line.At)) {
					c.t.Errorf("%s was of two endpoints at one time: %+v and %+v", a, before, line)
				}
				holds[a] = line
			}
		}
		c.t.Logf("%d lives of endpoints in %s, no address twice at one time", count, space)
	}
}

// leavesNothing removes containers, networks and the plugin, and compares what is left with what was
// there before.
func (c *chaos) leavesNothing() {
	c.t.Helper()
	c.quiet()
	var names []string
	for _, m := range c.made {
		names = append(names, m.name)
	}
	for n, some := range c.networks {
		for _, name := range some {
			names, c.made = append(names, name), append(c.made, made{c.lab.Host(n), name})
		}
	}
	eventually(c.t, time.Minute, func(ctx context.Context) error {
		var errs []error
		for _, m := range c.made {
			if _, err := m.host.Docker(ctx, "network", "rm", m.name); err != nil && !unknownNetwork(err) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
	eventually(c.t, spreadWithin, func(ctx context.Context) error { return c.noneLeft(ctx, names...) })
	must(c.t, each(c.members(), func(h *lab.Host) error { return c.wipe(c.t.Context(), h) }))
	for i, h := range c.members() {
		if after := c.traces(h); after != c.before[i] {
			c.t.Errorf("%s has\n%s\nbefore Weft came it had\n%s", h.Name(), after, c.before[i])
		}
	}
	c.t.Logf("%d networks came and went", len(names))
}
