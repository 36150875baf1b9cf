package plugin

import (
	"fmt"
	"strings"

	"github.com/weftnet/weft/dockerapi"
)

// reportSwarmNetworks tells of networks of swarm scope with Weft's driver. Docker asks no
// plugin when it creates them; each task on them is refused. Only managers list them
// before a task runs.
func (a *Agent) reportSwarmNetworks(networks []dockerapi.Network) {
	var names []string
	for _, n := range networks { // sorted
		if n.Ours && n.Swarm {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		a.problem("swarm", "")
		return
	}
	a.problem("swarm", fmt.Sprintf("no task can start on %s: Weft does not support --scope swarm yet; remove what is named (docker network rm), and create it without --scope swarm for containers of docker run and docker compose; services of a swarm need Docker's own driver, -d overlay", strings.Join(names, ", ")))
}
