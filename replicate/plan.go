package replicate

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// dockerNet is what replication needs to know of one network in the local Docker.
type dockerNet struct {
	ID      string           // Docker's, random per host
	Name    string           // Docker's
	Ours    bool             // made with Weft's driver
	Network netmap.NetworkID // 0 where it is not ours or not known yet
	Replica bool             // made by an agent, not by a user
	First   bool             // made by the user who created the network: replicas look like this one
	Shown   netmap.DockerNetwork
	InUse   bool     // containers are attached, stopped ones too
	Running []string // names of the containers that have an endpoint on it
}

// step is one thing to do next. Exactly one group of fields is set.
type step struct {
	Create  *netmap.Network      // make this network in the local Docker
	Remove  *dockerNet           // remove this one from the local Docker
	Name    netmap.NetworkID     // record that this network…
	As      string               // …has this name
	Shown   netmap.DockerNetwork // …and is shown like this by Docker
	Problem string               // show it to the operator
}

// String describes the step for the log.
func (s step) String() string {
	switch {
	case s.Create != nil:
		return fmt.Sprintf("create %s as %d", s.Create.Name, s.Create.ID)
	case s.Remove != nil:
		return "remove " + s.Remove.ID
	case s.Name != 0:
		return fmt.Sprintf("name %d %s", s.Name, s.As)
	default:
		return "problem"
	}
}

// planReplicas compares the networks that the ledger names with those of the local Docker. It
// is pure. After its steps were carried out it returns none. So networks that were created at
// the same moment on many hosts end as one (DESIGN §5): the first name in the ledger wins, and
// a network that lost is replaced by a replica of the winner once it is unused. A network that
// a user removed is removed here once no container runs on it; a stopped container has no
// endpoint, and does not keep Docker from removing a network on the user's own host either.
func planReplicas(decided []netmap.Network, local []dockerNet) []step {
	var steps []step
	byName := make(map[string]dockerNet, len(local))
	present := make(map[netmap.NetworkID]bool, len(local))
	for _, d := range local {
		byName[d.Name] = d
		present[d.Network] = true
		steps = append(steps, stepsFor(decided, d)...)
	}
	for _, n := range decided {
		if n.Name == "" || n.Docker == nil || n.Retired || present[n.ID] {
			continue
		}
		d, taken := byName[n.Name]
		switch {
		case !taken:
			steps = append(steps, step{Create: &n})
		case !d.Ours:
			steps = append(steps, step{Problem: "network " + n.Name + " of the cluster cannot appear here: Docker on this host has a network of that name with another driver; rename or remove one of them"})
		}
	}
	return steps
}

// name returns the step that records the name of a network, unless it has one, and how Docker
// shows it. Docker allows names that the ledger refuses.
func name(n netmap.Network, d dockerNet) []step {
	as := cmp.Or(n.Name, d.Name)
	refusal := state.CheckName("network name", as)
	if refusal == nil {
		refusal = state.CheckDocker(d.Name, d.Shown)
	}
	if refusal != nil {
		return []step{{Problem: refusal.Error() + "; the network stays on this host"}}
	}
	return []step{{Name: n.ID, As: as, Shown: d.Shown}}
}

// staleReplica removes a replica that no longer looks like its network, after the user removed
// the network and made it anew with the same subnets. As with a removed network, running
// containers keep it and stopped ones do not.
func staleReplica(n netmap.Network, d dockerNet) []step {
	switch {
	case n.Docker == nil || alike(*n.Docker, d.Shown):
		return nil
	case len(d.Running) > 0:
		return []step{{Problem: "network " + d.Name + " was made anew on another host with other options or labels, and this host shows the former ones until the last of these stops: " +
			strings.Join(d.Running, ", ") + "; stop them, or take them off it (docker network disconnect)"}}
	}
	return []step{{Remove: &d}}
}

// alike compares how a network is to look with how a replica does, as far as every release of
// Docker shows it as it was given.
func alike(want, has netmap.DockerNetwork) bool {
	return maps.Equal(want.Labels, has.Labels) && want.Attachable == has.Attachable &&
		given(want.Options, has.Options) && given(want.IPAMOptions, has.IPAMOptions) &&
		slices.EqualFunc(want.Pools, has.Pools, func(x, y netmap.DockerPool) bool { return maps.Equal(x.Aux, y.Aux) && x.Range == y.Range })
}

// given reports whether a replica has the options that were given. What it has beyond these
// comes from this host's Docker: its mark, what the release adds, default-network-opts.
func given(want, has map[string]string) bool {
	for key, value := range want {
		if got, ok := has[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// stepsFor returns what is to be done about one local network of Weft's driver.
func stepsFor(decided []netmap.Network, d dockerNet) []step {
	i := slices.IndexFunc(decided, func(n netmap.Network) bool { return n.ID == d.Network })
	if !d.Ours || i < 0 {
		return nil
	}
	n := decided[i]
	winner := slices.IndexFunc(decided, func(o netmap.Network) bool { return o.Name == d.Name && o.ID != n.ID && !o.Retired })
	switch {
	case n.Retired && len(d.Running) > 0:
		return []step{{Problem: "network " + d.Name + RemovedElsewhere(d.Running, winner >= 0)}}
	case n.Retired, n.Name != d.Name && winner >= 0 && !d.InUse:
		return []step{{Remove: &d}}
	case n.Name != d.Name && winner >= 0:
		return []step{{Problem: "network " + d.Name + " of this host is not the cluster's network of that name and has containers; disconnect them, and it is replaced by the cluster's"}}
	case d.Replica:
		return staleReplica(n, d)
	case n.Name == "", n.Docker == nil, d.First && !reflect.DeepEqual(*n.Docker, d.Shown):
		return name(n, d)
	}
	return nil
}

// RemovedElsewhere is the rest of a sentence about a network that a user removed on another
// host while these containers of this host run on it. Replaced says that another network has
// its name now.
func RemovedElsewhere(running []string, replaced bool) string {
	text := " was removed on another host (docker network rm) and takes no new containers; it goes from this host with its last one"
	if len(running) > 0 {
		text += ", these run on it: " + strings.Join(running, ", ") + "; stop them, or take them off it (docker network disconnect)"
	}
	if replaced {
		text += "; the cluster's new network of that name then appears here by itself"
	}
	return text
}
