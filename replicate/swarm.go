package replicate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/dockerapi"
)

// swarmMemory is how long a network of swarm scope is shown after a task on it was refused.
// Swarm tries again after five seconds unless a service says otherwise.
const swarmMemory = 30 * time.Second

// swarmNetworks are networks of swarm scope with Weft's driver. Docker creates them without
// asking the plugin, which refuses each task on them. A manager lists them; on a worker only
// the refused calls tell of them.
type swarmNetworks struct {
	mu      sync.Mutex
	listed  map[string]string    // the name by Docker's id, as of the last look
	refused map[string]time.Time // by Docker's id, when that was last
}

// listSwarmNetworks notes the networks that Docker lists, and shows them as a problem.
func (r *Replicator) listSwarmNetworks(networks []dockerapi.Network) {
	listed := map[string]string{}
	for _, n := range networks {
		if n.Ours && n.Swarm {
			listed[n.ID] = n.Name
		}
	}
	r.swarm.mu.Lock()
	for id := range r.swarm.listed {
		if listed[id] == "" { // it was removed
			delete(r.swarm.refused, id)
		}
	}
	r.swarm.listed = listed
	r.swarm.mu.Unlock()
	r.tellSwarmNetworks()
}

// RefusedSwarm is called when a task on a network of swarm scope was refused. It returns the
// network's name; empty if this host's Docker does not list it.
func (r *Replicator) RefusedSwarm(docker string) (name string) {
	r.swarm.mu.Lock()
	if r.swarm.refused == nil {
		r.swarm.refused = map[string]time.Time{}
	}
	r.swarm.refused[docker] = time.Now()
	name = r.swarm.listed[docker]
	r.swarm.mu.Unlock()
	r.tellSwarmNetworks()
	return name
}

func (r *Replicator) tellSwarmNetworks() {
	names := r.swarm.names()
	if len(names) == 0 {
		r.cfg.Problem("swarm", "")
		return
	}
	r.cfg.Problem("swarm", fmt.Sprintf("no task can start on %s: Weft does not support --scope swarm yet; remove what is named on a manager (docker network rm; docker network ls --no-trunc has the ids), and create it without --scope swarm for containers of docker run and docker compose; services of a swarm need Docker's own driver, -d overlay", strings.Join(names, ", ")))
}

// names returns the names of the networks that Docker lists, and the ids of others on which a
// task was refused lately.
func (s *swarmNetworks) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Values(s.listed))
	for _, id := range slices.Sorted(maps.Keys(s.refused)) {
		switch _, listed := s.listed[id]; {
		case time.Since(s.refused[id]) >= swarmMemory:
			delete(s.refused, id)
		case !listed:
			names = append(names, id)
		}
	}
	return names
}
