package plugin

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// openFounding lets this host take part in founding a cluster together with others
// (WEFT_EXPECT). It answers them as long as this host is in no cluster.
func (a *Agent) openFounding() (err error) {
	seeds := &seeds{join: a.cfg.Settings.Join, port: a.cfg.Settings.Port}
	a.together, err = ledger.OpenFounding(ledger.FoundingConfig{
		Self: a.self, Name: a.fact.Name, Addr: a.fact.Underlay, Expect: a.cfg.Settings.Expect, Ranges: a.cfg.Settings.Ranges,
		Seeds: seeds.resolve, Newcomers: a.newcomers, Cluster: a.clusterSoFar,
		Underlay: a.port, Disk: a.store.Bucket("founding"), Log: a.log,
	})
	return err
}

// clusterSoFar is the cluster that this host is in or is about to be in.
func (a *Agent) clusterSoFar() netmap.ClusterID {
	if c := a.store.Cluster(); !c.IsZero() {
		return c
	}
	return a.ledger.Cluster()
}

// newcomers are the other live hosts that are in no cluster.
func (a *Agent) newcomers() []ledger.Member {
	var out []ledger.Member
	for _, m := range a.gossip.Members() {
		if m.Alive && m.Cluster.IsZero() {
			out = append(out, ledger.Member{ID: m.ID, Name: m.Name, Addr: m.Addr, Alive: true})
		}
	}
	return out
}

// expects reports whether this host waits for others to found a cluster with.
func (a *Agent) expects() bool {
	return a.cfg.Settings.Expect > 0 && len(a.cfg.Settings.Join) > 0
}

// resume goes on with a founding that this host was killed in, or with becoming a
// member: a keeper of a cluster that it is no member of began the cluster's ledger.
func (a *Agent) resume(ctx context.Context, c netmap.ClusterID) error {
	if a.ledger.Status().Role == "none" {
		return nil
	}
	plan, ok := a.together.Plan(c)
	if !ok {
		plan = ledger.Plan{Cluster: c, Ranges: a.cfg.Settings.Ranges} // its keepers are in the log
	}
	return a.carryOut(ctx, plan)
}

// foundTogether makes one attempt to found a cluster with the others that are here,
// or joins the one that they have founded.
func (a *Agent) foundTogether(ctx context.Context) (netmap.ClusterID, error) {
	c, err := a.clusterOfPeers()
	if err == nil {
		if plan, ok := a.together.Plan(c); ok { // it was chosen, and this host did not hear of it
			return c, a.carryOut(ctx, plan)
		}
		return c, nil
	}
	if a.anyMember() {
		return netmap.ClusterID{}, err // of two clusters: that is no founding
	}
	plan, err := a.together.Try(ctx)
	if err != nil {
		return netmap.ClusterID{}, err
	}
	return plan.Cluster, a.carryOut(ctx, plan)
}

func (a *Agent) carryOut(ctx context.Context, plan ledger.Plan) error {
	a.gossip.SetCluster(plan.Cluster)
	_, err := a.ledger.FoundTogether(ctx, plan)
	return err
}

// anyMember reports whether a live host is in some cluster.
func (a *Agent) anyMember() bool {
	for _, m := range a.gossip.Members() {
		if m.Alive && !m.Cluster.IsZero() {
			return true
		}
	}
	return false
}

// seedsKept is how long the addresses of WEFT_JOIN are believed.
const seedsKept = 15 * time.Second

// seeds resolves WEFT_JOIN, not with every attempt. Safe for concurrent use.
type seeds struct {
	join []string
	port uint16

	mu    sync.Mutex
	found map[string][]netip.AddrPort
	at    time.Time
}

func (s *seeds) resolve(ctx context.Context) map[string][]netip.AddrPort {
	s.mu.Lock()
	found, at := s.found, s.at
	s.mu.Unlock()
	if found != nil && time.Since(at) < seedsKept {
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, firstMeeting)
	defer cancel()
	found = map[string][]netip.AddrPort{}
	for _, peer := range s.join {
		found[peer], _ = gossip.Resolve(ctx, nil, peer, s.port) // gossip tells of names that are not found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found, s.at = found, time.Now()
	return found
}
