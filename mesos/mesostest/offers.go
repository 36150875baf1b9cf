package mesostest

import (
	"slices"
	"strconv"
)

// firstPort and lastPort are the ports that an agent of Mesos offers unless it is told otherwise.
const (
	firstPort = 31000
	lastPort  = 32000
)

// allowed reports whether the constraints of an app let its next instance run on an agent (Constraints.scala).
func (c *Cluster) allowed(a App, agent Agent) bool {
	groups := map[string]int{}
	for _, r := range c.Tasks(a.ID) {
		groups[r.Agent.Hostname()]++
	}
	here := groups[agent.Hostname()]
	for _, constraint := range a.Constraints {
		if len(constraint) < 2 || constraint[0] != "hostname" {
			return false // this harness knows no attributes
		}
		switch constraint[1] {
		case "UNIQUE":
			if here > 0 {
				return false
			}
		case "GROUP_BY":
			if !grouped(a.Instances, constraint[2:], groups, here) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// grouped is the rule of GROUP_BY: each of so many groups has its share, and some have one of the rest.
func grouped(instances int, value []string, groups map[string]int, here int) bool {
	if len(value) == 0 {
		return false // Marathon fails as well
	}
	wanted, err := strconv.Atoi(value[0])
	if err != nil || wanted <= 0 {
		return false
	}
	if here == 0 {
		return len(groups) < wanted
	}
	share, rest := instances/wanted, instances%wanted
	for _, n := range groups {
		rest -= max(0, n-share)
	}
	return here < share || here == share && rest > 0
}

// usedPorts are those of an agent that its tasks have.
func (c *Cluster) usedPorts(agent Agent) (out []int) {
	for _, r := range c.on(agent) {
		out = append(out, r.Task.Ports...)
	}
	return out
}

// freePorts are what an agent offers.
func (c *Cluster) freePorts(agent Agent) (out []int) {
	used := c.usedPorts(agent)
	for port := firstPort; port <= lastPort; port++ {
		if !slices.Contains(used, port) {
			out = append(out, port)
		}
	}
	return out
}

// offers reports whether an agent has the ports of the host that an app asks for by number, and enough of any.
func (c *Cluster) offers(a App, agent Agent) bool {
	task, err := c.Marathon.Task(a, Offer{Hostname: agent.Hostname(), Ports: c.freePorts(agent)})
	if err != nil {
		return true // starting it says what is wrong
	}
	used := c.usedPorts(agent)
	return !slices.ContainsFunc(task.Ports, func(port int) bool { return slices.Contains(used, port) })
}
