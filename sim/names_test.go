package sim_test

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/api"
)

// named waits until all hosts answer the same for all names, and have every container that runs.
func (w *world) named() {
	if w.replicates() { // otherwise the agents have no Docker that tells names
		w.comes("names", convergeLimit, w.misnamed)
	}
}

// misnamed says which name two hosts answer differently, or which container is not found; empty if all is right.
func (w *world) misnamed() string {
	var first []api.Name
	for i, h := range w.hosts {
		names, err := h.agent().ListNames(w.t.Context(), api.NameQuery{})
		if err != nil {
			return fmt.Sprintf("%s lists no names: %v", h, err)
		}
		if i == 0 {
			first = names
		}
		if d := difference(first, names); d != "" {
			return fmt.Sprintf("%s and %s: %s", w.hosts[0], h, d)
		}
	}
	for _, h := range w.hosts {
		for _, c := range h.docker.Containers() {
			if c.Running && !slices.ContainsFunc(first, func(n api.Name) bool { return n.Container == c.Name && n.Endpoint == c.Endpoint && n.Passed == "" }) {
				return fmt.Sprintf("container %s of %s with %v has no name", c.Name, h, c.Addrs)
			}
		}
	}
	return ""
}

// difference is the first name that is not in both lists.
func difference(a, b []api.Name) string {
	texts := func(names []api.Name) (out []string) {
		for _, n := range names {
			slices.SortFunc(n.Addrs, netip.Addr.Compare)
			out = append(out, fmt.Sprintf("%s on %s by %s of %s, %s %v %s", n.Name, n.Network, n.Source, n.Container, n.Host, n.Addrs, n.Passed))
		}
		slices.Sort(out)
		return out
	}
	x, y := texts(a), texts(b)
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			return fmt.Sprintf("name %d is %q on one and %q on the other", i, x[min(i, len(x)):min(i+1, len(x))], y[min(i, len(y)):min(i+1, len(y))])
		}
	}
	return ""
}
