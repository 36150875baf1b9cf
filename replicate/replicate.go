package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Pace of the Replicator.
const (
	retryAfter   = 2 * time.Second  // after a step that failed
	lookEvery    = 30 * time.Second // without a reason
	lookBudget   = 90 * time.Second // for one look and its steps
	decideBudget = 10 * time.Second // for one decision of the ledger
)

// Docker is the Docker Engine of this host. All methods are safe for concurrent use.
type Docker interface {
	Watch(ctx context.Context) <-chan dockerapi.Event
	Networks(ctx context.Context) ([]dockerapi.Network, error)
	Attachments(ctx context.Context, id, name string) ([]dockerapi.Attachment, error)
	Endpoints(ctx context.Context, id string) ([]netmap.EndpointID, error)
	CreateReplica(ctx context.Context, spec dockerapi.ReplicaSpec) (string, error)
	RemoveNetwork(ctx context.Context, id string) error
	CreateGateway(ctx context.Context, avoid []netip.Prefix) error
	Drivers(ctx context.Context) ([]string, error)
}

// Driver has the networks and endpoints that Docker made over its network protocol, without
// those of other owners: Docker cannot say whether these are gone.
type Driver interface {
	Networks() []attach.NetworkRecord
	Endpoints() []attach.EndpointRecord
	Endpoint(id netmap.EndpointID) (attach.EndpointRecord, bool)
	ForgetNetwork(ctx context.Context, docker string) error
	ForgetEndpoint(ctx context.Context, id netmap.EndpointID) error
}

// Facts are the facts of the cluster.
type Facts interface {
	follow.Source
	Synced() bool
}

// Config says what a Replicator is made of. All functions are called concurrently.
type Config struct {
	Self      netmap.HostID
	Replicate bool // false: no replica is made or removed here
	Docker    Docker
	Driver    Driver
	Facts     Facts
	Disk      Disk
	Routes    func() []netip.Prefix // that this host routes already
	// Decide has the ledger carry out a command. The error is a *netmap.Refusal if the ledger
	// refuses it.
	Decide func(ctx context.Context, c state.Command) error
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
	Log     *slog.Logger
}

// Replicator keeps the networks of this host's Docker equal to those of the cluster. Its
// exported methods are safe for concurrent use.
type Replicator struct {
	cfg      Config
	removals *removals
	swarm    swarmNetworks
	// creating is the network of which this host asked its Docker to make a replica. It is kept
	// if the request fails, since Docker may still carry it out.
	creating atomic.Uint64

	// Used by Run alone.
	missing absence // what the driver has and Docker does not
	unknown absence // endpoints that Docker has and the driver does not
	failed  bool    // a step of the last look has failed
	gateway gatewayKeeper
}

// Open reads the removals from disk.
func Open(cfg Config) (*Replicator, error) {
	removals, err := openRemovals(cfg.Disk)
	if err != nil {
		return nil, err
	}
	return &Replicator{cfg: cfg, removals: removals, missing: absence{}, unknown: absence{}}, nil
}

// Creating reports whether this host asked its Docker to make a replica of a network.
func (r *Replicator) Creating(id netmap.NetworkID) bool { return r.creating.Load() == uint64(id) }

// Deleted is called when Docker deletes a network, before Docker is answered.
func (r *Replicator) Deleted(docker string) {
	if err := r.removals.deleted(docker); err != nil {
		r.cfg.Log.Warn("the removal of a network", "err", err)
	}
}

// replicated is what of the facts decides which networks Docker has here.
func replicated(c netmap.Changes) bool { return len(c.Networks) > 0 || c.Subnets || len(c.Hosts) > 0 }

// Run compares Docker's networks with the cluster's after each event of Docker and each change
// of a network or a host, until ctx ends. Without a Docker it returns at once.
func (r *Replicator) Run(ctx context.Context) {
	if r.cfg.Docker == nil {
		return
	}
	heard := make(chan struct{}, 1)
	var hearing sync.WaitGroup
	defer hearing.Wait()
	hearing.Go(func() {
		for e := range r.cfg.Docker.Watch(ctx) {
			if e.Kind != dockerapi.ContainerCreated && e.Kind != dockerapi.ContainerHealth { // no endpoint comes or goes
				turn.Poke(heard)
			}
		}
	})
	for next := range follow.Facts(ctx, r.cfg.Facts, follow.When{Every: lookEvery, Wake: heard, Of: replicated}) {
		ok := r.look(ctx)
		// The steps of a look cause events and change the facts, so neither ends this pause.
		for r.failed && turn.Sleep(ctx, retryAfter) {
			ok = r.look(ctx)
		}
		if !ok {
			next.Again(retryAfter)
		}
	}
}

// retire tells the ledger which networks a user removed here with `network rm`. Such a network
// is removed everywhere; a replica is made again here. Before the ledger has answered, no
// network is made here.
func (r *Replicator) retire(ctx context.Context) error {
	pending := r.removals.pending()
	for _, id := range slices.Sorted(maps.Keys(pending)) {
		gone := pending[id]
		if gone.Replica && !r.cfg.Facts.Synced() {
			continue // who created it is not known yet
		}
		if r.cfg.Replicate && !r.back(id, gone.Network) {
			if err := r.tell(ctx, gone); err != nil {
				return err
			}
		}
		if err := r.removals.done(id); err != nil {
			return err
		}
	}
	return nil
}

// tell has the ledger retire a network that was removed here, unless it was a replica of a
// network whose creator is still a member.
func (r *Replicator) tell(ctx context.Context, gone removal) error {
	if gone.Replica {
		if creator := r.creator(gone.Network); creator != "" {
			r.cfg.Log.Info("a replica was removed from this host only, and is made again: to remove the network from the cluster, remove it on the host that created it, or use weft network rm on any",
				"network", gone.Name, "id", gone.Network, "created_on", creator)
			return nil
		}
	}
	err := r.do(ctx, state.Command{Kind: state.KindRetireNetwork, RetireNetwork: &state.RetireNetwork{ID: gone.Network}})
	if err != nil && !errors.Is(err, &netmap.Refusal{Kind: netmap.Unknown}) {
		return fmt.Errorf("network %s was removed here, and the other hosts cannot be told yet: %w", gone.Name, err)
	}
	r.cfg.Log.Info("network was removed here, so it goes everywhere", "network", gone.Name, "id", gone.Network)
	return nil
}

// creator returns the name of the other host that created a network; empty if that is no member
// of the cluster any more, in which case a removal on any host counts.
func (r *Replicator) creator(id netmap.NetworkID) string {
	view := r.cfg.Facts.View()
	n, known := view.Network(id)
	h, member := view.Host(n.Creator)
	if !known || !member || h.Entry.Removed || n.Creator == r.cfg.Self {
		return ""
	}
	return view.HostName(n.Creator)
}

// back reports whether the user created a removed network again, under another Docker id. That
// is what he wants now, whatever the ledger has yet to hear of the removal. The old one may
// still be here, since Docker calls the driver at the end of a removal.
func (r *Replicator) back(docker string, id netmap.NetworkID) bool {
	return slices.ContainsFunc(r.cfg.Driver.Networks(), func(rec attach.NetworkRecord) bool {
		return !rec.Deleted && rec.Network.ID == id && rec.ID != docker
	})
}

// look compares once and carries out the steps. It returns false if another look should come
// soon.
func (r *Replicator) look(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookBudget)
	defer cancel()
	r.failed = false
	local, networks, err := r.local(ctx)
	if err != nil {
		clear(r.missing) // what Docker had meanwhile is not known
		return false     // Docker is down or restarting; its events tell when it is back
	}
	r.listSwarmNetworks(networks)
	if err := r.retire(ctx); err != nil {
		r.cfg.Problem("replicas", err.Error())
		return false
	}
	if !r.cfg.Facts.Synced() {
		return true
	}
	r.keepGateway(ctx, networks)
	var problems []string
	for _, s := range r.wanted(planReplicas(r.cfg.Facts.View().Networks, local)) {
		if s.Problem != "" {
			problems = append(problems, s.Problem)
			continue
		}
		r.cfg.Log.Info("changing Docker's networks", "step", s.String())
		if err := r.carryOut(ctx, s, networks); err != nil {
			// Docker's events tell when a network is no longer in use.
			r.failed = r.failed || !errors.Is(err, dockerapi.ErrInUse)
			problems = append(problems, err.Error())
		}
	}
	r.cfg.Problem("replicas", strings.Join(problems, "; "))
	return !r.failed
}

// wanted returns the steps that this host takes. A host without replication only records how
// the networks look that its users named with weft.network, for hosts that make replicas of
// them. A network that the driver still has is not created: Docker is about to report its
// removal.
func (r *Replicator) wanted(steps []step) []step {
	view := r.cfg.Facts.View()
	return slices.DeleteFunc(steps, func(s step) bool {
		if s.Create != nil && r.back("", s.Create.ID) {
			return true
		}
		n, _ := view.Network(s.Name)
		return !r.cfg.Replicate && n.Name == ""
	})
}

// local lists Docker's networks for planReplicas, and looks for what the driver and Docker do not
// both have.
func (r *Replicator) local(ctx context.Context) ([]dockerNet, []dockerapi.Network, error) {
	networks, err := r.cfg.Docker.Networks(ctx)
	if err != nil {
		return nil, nil, err
	}
	records := map[string]attach.NetworkRecord{}
	for _, rec := range r.cfg.Driver.Networks() {
		records[rec.ID] = rec
	}
	view := r.cfg.Facts.View()
	out := make([]dockerNet, 0, len(networks))
	seen := map[string]dockerNet{}
	containers := map[netmap.EndpointID]string{}
	for _, n := range networks {
		rec, ours := records[n.ID]
		d := dockerNet{ID: n.ID, Name: n.Name, Ours: ours || n.Ours, Network: rec.Network.ID, Replica: n.Replica != 0, Shown: n.Shown}
		if known, ok := view.Network(d.Network); ok {
			d.First = known.Creator == r.cfg.Self && !d.Replica
		}
		if d.Network == 0 { // it is being removed: what it was counts
			d.Network = r.removals.was(n.ID)
		}
		if ours {
			attached, err := r.cfg.Docker.Attachments(ctx, n.ID, n.Name)
			if err != nil {
				return nil, nil, err
			}
			d.InUse = len(attached) > 0
			for _, at := range attached {
				if at.Endpoint != "" {
					containers[at.Endpoint] = at.Name
				}
				// Docker lists a container as running until it has reported that its endpoint
				// is gone.
				if _, has := r.cfg.Driver.Endpoint(at.Endpoint); has {
					d.Running = append(d.Running, at.Name)
				}
			}
		}
		out = append(out, d)
		seen[d.ID] = d
	}
	if err := r.forgetOrphans(ctx, networks, containers); err != nil {
		return nil, nil, err
	}
	r.nameUnknown(containers)
	if err := r.removals.looked(seen); err != nil {
		r.cfg.Log.Warn("the removal of networks", "err", err)
	}
	return out, networks, nil
}

func (r *Replicator) carryOut(ctx context.Context, s step, networks []dockerapi.Network) error {
	switch {
	case s.Create != nil:
		spec := r.spec(*s.Create, networks)
		if spec.Driver == "" {
			return errors.New("network " + s.Create.Name + " cannot appear here: Docker does not list the plugin yet")
		}
		r.creating.Store(uint64(spec.Network))
		_, err := r.cfg.Docker.CreateReplica(ctx, spec)
		if err == nil {
			r.creating.Store(0)
		}
		if errors.Is(err, dockerapi.ErrNameTaken) {
			return nil // the next look finds out who has it
		}
		return err
	case s.Remove != nil:
		r.removals.byAgent(s.Remove.ID, true)
		err := r.cfg.Docker.RemoveNetwork(ctx, s.Remove.ID)
		if errors.Is(err, dockerapi.ErrInUse) {
			r.removals.byAgent(s.Remove.ID, false)
			return fmt.Errorf("network %s was removed on another host, or lost its name to another network, and cannot go from this one yet: %w; stop what uses it (docker network inspect %s lists that), or take it off (docker network disconnect -f)", s.Remove.Name, err, s.Remove.Name)
		}
		return err
	default:
		err := r.do(ctx, state.Command{Kind: state.KindNameNetwork, NameNetwork: &state.NameNetwork{ID: s.Name, Name: s.As, Docker: &s.Shown}})
		if errors.Is(err, &netmap.Refusal{Kind: netmap.Conflict}) {
			return nil // another host was first; its name arrives as a fact
		}
		return err
	}
}

// spec returns the request to Docker for a replica of a network.
func (r *Replicator) spec(n netmap.Network, networks []dockerapi.Network) dockerapi.ReplicaSpec {
	return dockerapi.ReplicaSpec{Network: n.ID, Name: n.Name, Driver: r.driverName(networks), Internal: n.Internal, Shown: *n.Docker}
}

// driverName returns the name under which this Docker knows the plugin.
func (r *Replicator) driverName(networks []dockerapi.Network) string {
	for _, n := range networks {
		if n.Ours {
			return n.Driver
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), retryAfter)
	defer cancel()
	names, err := r.cfg.Docker.Drivers(ctx)
	if err != nil || len(names) == 0 {
		return ""
	}
	return names[0]
}

func (r *Replicator) do(ctx context.Context, c state.Command) error {
	ctx, cancel := context.WithTimeout(ctx, decideBudget)
	defer cancel()
	return r.cfg.Decide(ctx, c)
}
