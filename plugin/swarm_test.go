package plugin_test

import (
	"strings"
	"testing"
)

// TestSwarmScopeIsAProblem: with its names, as long as Docker lists such a network; the
// driver refuses each task's CreateNetwork by name.
func TestSwarmScopeIsAProblem(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		first := h.docker.AddSwarm("first")
		h.problem(soon, "no task can start on first:", "--scope swarm", "docker network rm")
		h.docker.AddSwarm("second")
		h.problem(soon, "no task can start on first, second:")
		if said := h.NameOf(first); said != "first" {
			t.Errorf("the network's name is %q", said)
		}
		for _, name := range []string{"first", "second"} {
			if err := h.docker.RemoveNetwork(t.Context(), h.lookup(name)); err != nil {
				t.Fatal(err)
			}
		}
		h.until("no problem", soon, func() bool { return !strings.Contains(strings.Join(h.Report().Problems, "\n"), "swarm") })
	})
}
