package plugin_test

import (
	"strings"
	"testing"
	"time"
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
		if said := h.RefusedSwarm(first); said != "first" {
			t.Errorf("the network's name is %q", said)
		}
		h.problem(soon, "no task can start on first, second:")
		for _, name := range []string{"first", "second"} {
			if err := h.docker.RemoveNetwork(t.Context(), h.lookup(name)); err != nil {
				t.Fatal(err)
			}
		}
		h.until("no problem", soon, func() bool { return !strings.Contains(strings.Join(h.Report().Problems, "\n"), "swarm") })
	})
}

// TestAWorkerTellsOfRefusedTasks: its Docker does not list the network, so the problem
// lasts as long as swarm tries to start tasks.
func TestAWorkerTellsOfRefusedTasks(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		h := up(c, 1)[0]
		const id = "21fqaltzo6x2790lrmd78eaal"
		for range 20 { // as swarm does
			if said := h.RefusedSwarm(id); said != "" {
				c.t.Errorf("the network's name is %q", said)
			}
			h.problem(time.Millisecond, "no task can start on "+id+":", "--scope swarm", "on a manager", "--no-trunc")
			time.Sleep(5 * time.Second)
		}
		h.until("no problem", time.Minute, func() bool { return len(h.Report().Problems) == 0 })
	})
}
