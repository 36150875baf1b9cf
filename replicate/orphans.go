package replicate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// orphanAfter is how long Docker may fail to list what the driver has before it
// counts as deleted while no agent answered. Docker lists an endpoint once its
// container runs, seconds after CreateEndpoint.
const orphanAfter = time.Minute

// absence remembers since when things that should be there are not.
type absence map[string]time.Time

// overdue takes in which of the wanted things are present now, and answers those
// that have been missing without a break for orphanAfter, sorted.
func (a absence) overdue(now time.Time, wanted []string, present map[string]bool) []string {
	var out []string
	missing := map[string]bool{}
	for _, id := range wanted {
		if present[id] {
			continue
		}
		missing[id] = true
		since, known := a[id]
		if !known {
			a[id] = now
		} else if now.Sub(since) >= orphanAfter {
			out = append(out, id)
		}
	}
	for id := range a {
		if !missing[id] {
			delete(a, id)
		}
	}
	slices.Sort(out)
	return out
}

// forgetOrphans removes endpoints and networks that Docker deleted while the agent
// did not answer: Docker logs that error and never asks again. What the driver has is
// in use until Docker, asked twice without a failure in between, says otherwise.
func (r *Replicator) forgetOrphans(ctx context.Context, networks []dockerapi.Network, attached map[netmap.EndpointID]string) error {
	present := map[string]bool{}
	for _, n := range networks {
		present[n.ID] = true
	}
	for id := range attached {
		present[string(id)] = true
	}
	wantNetworks, wantEndpoints, err := r.expected(ctx, present)
	if err != nil {
		return err
	}
	for _, id := range r.missing.overdue(time.Now(), slices.Concat(wantNetworks, wantEndpoints), present) {
		// What fails is Settle's to repeat. To ask the ledger whenever the facts change
		// would change the facts: each of its answers is a decision.
		r.missing[id] = time.Now()
		var err error
		if slices.Contains(wantNetworks, id) {
			err = r.cfg.Driver.ForgetNetwork(ctx, id)
		} else {
			err = r.cfg.Driver.ForgetEndpoint(ctx, netmap.EndpointID(id))
		}
		r.cfg.Log.Info("forgotten, because Docker does not have it any more", "id", id, "err", err)
	}
	return nil
}

// expected is what the driver has. Of endpoints that no running container has it asks
// Docker's networks: a container may take minutes to start, with its endpoint made
// at the beginning. Those that Docker has are put to what is present.
func (r *Replicator) expected(ctx context.Context, present map[string]bool) (networks, endpoints []string, err error) {
	for _, rec := range r.cfg.Driver.Networks() {
		networks = append(networks, rec.ID)
	}
	asked := map[string]bool{}
	for _, rec := range r.cfg.Driver.Endpoints() {
		id := string(rec.Endpoint.ID)
		endpoints = append(endpoints, id)
		if present[id] || !present[rec.LocalNetwork] || asked[rec.LocalNetwork] {
			continue
		}
		asked[rec.LocalNetwork] = true
		listed, err := r.cfg.Docker.Endpoints(ctx, rec.LocalNetwork)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range listed {
			present[string(e)] = true
		}
	}
	return networks, endpoints, nil
}

// nameUnknown tells of containers that Docker has on our networks and whose
// endpoints this host's disk does not know: it is an older copy, or it was lost. They
// are off the network.
func (r *Replicator) nameUnknown(attached map[netmap.EndpointID]string) {
	known := map[string]bool{}
	for _, rec := range r.cfg.Driver.Endpoints() {
		known[string(rec.Endpoint.ID)] = true
	}
	var ids []string
	for id := range attached {
		ids = append(ids, string(id))
	}
	var names []string
	for _, id := range r.unknown.overdue(time.Now(), ids, known) {
		names = append(names, attached[netmap.EndpointID(id)])
	}
	if len(names) == 0 {
		r.cfg.Problem("strangers", "")
		return
	}
	slices.Sort(names)
	r.cfg.Problem("strangers", fmt.Sprintf("containers that this host's state directory does not know are off the network: %s; it is an older copy, or was lost; start them again (docker restart)", strings.Join(names, ", ")))
}
