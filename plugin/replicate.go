package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/driver"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// replicaPause is how long replication waits after a step that failed, and the
// longest that it waits for a reason to look again.
const (
	replicaRetry  = 2 * time.Second
	replicaLook   = 30 * time.Second
	replicaBudget = 90 * time.Second // for one look and its steps
)

// replicator is what the replicating loop remembers between two looks.
type replicator struct {
	a       *Agent
	missing absence // what the driver has and Docker does not
	failed  bool    // a step of the last look
	strange absence // what Docker has and the driver does not
	gateway gatewayKeeper
}

// replicate learns names from the local Docker and keeps its networks equal to
// those that the ledger names, beside the plugin protocol (DESIGN §5).
func (a *Agent) replicate(ctx context.Context) {
	if a.cfg.Docker == nil {
		return
	}
	r := &replicator{a: a, missing: absence{}, strange: absence{}}
	events := a.cfg.Docker.Watch(ctx)
	changed, unsubscribe := a.gossip.Subscribe()
	defer unsubscribe()
	again := time.NewTimer(replicaLook)
	defer again.Stop()
	for {
		heard, learnt := events, changed
		if r.failed {
			// Its own attempt, decisions of it included, is no reason to try again at once.
			heard, learnt = nil, nil
		}
		select {
		case <-ctx.Done():
			return
		case e, open := <-heard:
			if !open {
				return
			}
			if e.Kind == dockerapi.ContainerCreated {
				continue // it has no endpoint yet
			}
		case <-learnt:
		case <-again.C:
		}
		for range len(events) {
			<-events // a look sees what all that wait are about
		}
		pause := replicaLook
		if !r.look(ctx) {
			pause = replicaRetry
		}
		again.Reset(pause)
	}
}

// retire passes a user's `network rm` on: the network goes everywhere, or comes back
// here where it is a replica. Until the ledger has heard of it nothing is made anew here.
func (r *replicator) retire(ctx context.Context) error {
	pending := r.a.removals.pending()
	for _, id := range slices.Sorted(maps.Keys(pending)) {
		gone := pending[id]
		if gone.Replica && !r.a.gossip.Synced() {
			continue // who created it is not known yet
		}
		if r.a.cfg.Settings.Replicate && !r.back(id, gone.Network) {
			if err := r.tell(ctx, gone); err != nil {
				return err
			}
		}
		if err := r.a.removals.done(id); err != nil {
			return err
		}
	}
	return nil
}

// tell has the ledger retire a network that was removed here, if that is for a removal
// on this host to do.
func (r *replicator) tell(ctx context.Context, gone removal) error {
	if gone.Replica {
		if creator := r.creator(gone.Network); creator != "" {
			r.a.log.Info("a replica was removed from this host only, and is made again: to remove the network from the cluster, remove it on the host that created it, or use weft network rm on any",
				"network", gone.Name, "id", gone.Network, "created_on", creator)
			return nil
		}
	}
	err := r.do(ctx, ledger.Command{Kind: ledger.KindRetireNetwork, RetireNetwork: &ledger.RetireNetwork{ID: gone.Network}})
	if err != nil && !errors.Is(err, &netmap.Refusal{Kind: netmap.Unknown}) {
		return fmt.Errorf("network %s was removed here, and the other hosts cannot be told yet: %w", gone.Name, err)
	}
	r.a.log.Info("network was removed here, so it goes everywhere", "network", gone.Name, "id", gone.Network)
	return nil
}

// creator is the name of the other host that created a network, empty where that is no
// member of the cluster any more: then a removal on any host counts.
func (r *replicator) creator(id netmap.NetworkID) string {
	view := r.a.gossip.View()
	n, known := view.Network(id)
	h, member := view.Host(n.Creator)
	if !known || !member || h.Entry.Removed || n.Creator == r.a.self {
		return ""
	}
	return view.HostName(n.Creator)
}

// back reports whether the user created a network again that he removed: that is his
// last word, whatever the ledger has not heard of the removal. Docker gave it another id
// then: the old one may be here still, as Docker tells the driver last of a removal.
func (r *replicator) back(docker string, id netmap.NetworkID) bool {
	return slices.ContainsFunc(r.a.driver.Networks(), func(rec driver.NetworkRecord) bool {
		return !rec.Leaving && rec.Network.ID == id && rec.Docker != docker
	})
}

// look compares once and carries the steps out; false asks for another look soon.
func (r *replicator) look(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, replicaBudget)
	defer cancel()
	r.failed = false
	local, networks, err := r.local(ctx)
	if err != nil {
		clear(r.missing) // what it had meanwhile is not known
		return false     // Docker is down or restarting; its events tell when it is back
	}
	r.a.reportSwarmNetworks(networks)
	if err := r.retire(ctx); err != nil {
		r.a.problem("replicas", err.Error())
		return false
	}
	ok := !r.nameless()
	if !r.a.gossip.Synced() {
		return ok
	}
	r.keepGateway(ctx, networks)
	var problems []string
	for _, s := range r.wanted(planReplicas(r.a.gossip.View().Networks, local)) {
		if s.Problem != "" {
			problems = append(problems, s.Problem)
			continue
		}
		r.a.log.Info("keeping Docker's networks equal", "step", s.String())
		if err := r.carryOut(ctx, s, networks); err != nil {
			// Docker tells when what uses a network ends.
			r.failed = r.failed || !errors.Is(err, dockerapi.ErrInUse)
			problems = append(problems, err.Error())
		}
	}
	r.a.problem("replicas", strings.Join(problems, "; "))
	return ok && !r.failed
}

// wanted are the steps that this host takes. Without replication it says how the networks
// look that users named with weft.network, for hosts that make replicas of them; and
// where the driver has a network still, Docker is about to say that it removed it.
func (r *replicator) wanted(steps []step) []step {
	view := r.a.gossip.View()
	return slices.DeleteFunc(steps, func(s step) bool {
		if s.Create != nil && r.back("", s.Create.ID) {
			return true
		}
		n, _ := view.Network(s.Name)
		return !r.a.cfg.Settings.Replicate && n.Name == ""
	})
}

// local lists Docker's networks as replication sees them, and learns the names of
// the containers on them.
func (r *replicator) local(ctx context.Context) ([]dockerNet, []dockerapi.Network, error) {
	networks, err := r.a.cfg.Docker.Networks(ctx)
	if err != nil {
		return nil, nil, err
	}
	records := map[string]driver.NetworkRecord{}
	for _, rec := range r.a.driver.Networks() {
		records[rec.Docker] = rec
	}
	view := r.a.gossip.View()
	out := make([]dockerNet, 0, len(networks))
	seen := map[string]dockerNet{}
	containers := map[netmap.EndpointID]string{}
	for _, n := range networks {
		rec, ours := records[n.ID]
		d := dockerNet{ID: n.ID, Name: n.Name, Ours: ours || n.Ours, Network: rec.Network.ID, Replica: n.Replica != 0, Shown: n.Shown}
		if known, ok := view.Network(d.Network); ok {
			d.First = known.Creator == r.a.self && !d.Replica
		}
		if d.Network == 0 { // being removed: what it was counts
			d.Network = r.a.removals.was(n.ID)
		}
		if ours {
			attached, err := r.a.cfg.Docker.Attachments(ctx, n.ID, n.Name)
			if err != nil {
				return nil, nil, err
			}
			d.InUse = len(attached) > 0
			for _, at := range attached {
				if at.Endpoint != "" {
					containers[at.Endpoint] = at.Name
				}
				// Docker lists a container as running until after it has told that its endpoint is gone.
				if _, has := r.a.driver.Endpoint(at.Endpoint); has {
					d.Running = append(d.Running, at.Name)
				}
			}
		}
		out = append(out, d)
		seen[d.ID] = d
	}
	r.nameEndpoints(containers)
	if err := r.forgetOrphans(ctx, networks, containers); err != nil {
		return nil, nil, err
	}
	r.nameStrangers(containers)
	if err := r.a.removals.looked(seen); err != nil {
		r.a.log.Warn("removed networks", "err", err)
	}
	return out, networks, nil
}

func (r *replicator) nameEndpoints(containers map[netmap.EndpointID]string) {
	for _, rec := range r.a.driver.Endpoints() {
		if name, ok := containers[rec.Endpoint.ID]; ok && rec.Joined {
			r.a.nameEndpoint(rec.Endpoint, name)
		}
	}
}

// nameless reports whether an endpoint of a container has no name yet: Docker tells
// of a `network connect` before it lists the container on the network.
func (r *replicator) nameless() bool {
	endpoints := r.a.driver.Endpoints()
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	return slices.ContainsFunc(endpoints, func(e driver.EndpointRecord) bool {
		return e.Joined && r.a.names[e.Endpoint.ID] == ""
	})
}

func (r *replicator) carryOut(ctx context.Context, s step, networks []dockerapi.Network) error {
	switch {
	case s.Create != nil:
		spec := r.spec(*s.Create, networks)
		if spec.Driver == "" {
			return errors.New("network " + s.Create.Name + " cannot appear here: Docker does not list the plugin yet")
		}
		r.a.copying.Store(uint64(spec.Network))
		_, err := r.a.cfg.Docker.CreateReplica(ctx, spec)
		if err == nil {
			r.a.copying.Store(0)
		}
		if errors.Is(err, dockerapi.ErrNameTaken) {
			return nil // the next look finds out who has it
		}
		return err
	case s.Remove != nil:
		r.a.removals.byAgent(s.Remove.ID, true)
		err := r.a.cfg.Docker.RemoveNetwork(ctx, s.Remove.ID)
		if errors.Is(err, dockerapi.ErrInUse) {
			r.a.removals.byAgent(s.Remove.ID, false)
			return fmt.Errorf("network %s was removed on another host, or lost its name to another network, and cannot go from this one yet: %w; stop what uses it (docker network inspect %s lists that), or take it off (docker network disconnect -f)", s.Remove.Name, err, s.Remove.Name)
		}
		return err
	default:
		err := r.do(ctx, ledger.Command{Kind: ledger.KindNameNetwork, NameNetwork: &ledger.NameNetwork{ID: s.Name, Name: s.As, Docker: &s.Shown}})
		if errors.Is(err, &netmap.Refusal{Kind: netmap.Conflict}) {
			return nil // another host was first; its word arrives as a fact
		}
		return err
	}
}

// spec is a network of the cluster in Docker's words.
func (r *replicator) spec(n netmap.Network, networks []dockerapi.Network) dockerapi.ReplicaSpec {
	return dockerapi.ReplicaSpec{Network: n.ID, Name: n.Name, Driver: r.driverName(networks), Internal: n.Internal, Shown: *n.Docker}
}

// driverName is the name under which this Docker knows the plugin.
func (r *replicator) driverName(networks []dockerapi.Network) string {
	for _, n := range networks {
		if n.Ours {
			return n.Driver
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), replicaRetry)
	defer cancel()
	names, err := r.a.cfg.Docker.Drivers(ctx)
	if err != nil || len(names) == 0 {
		return ""
	}
	return names[0]
}

func (r *replicator) do(ctx context.Context, c ledger.Command) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	_, err := r.a.decide(ctx, c)
	return err
}
