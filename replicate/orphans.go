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

// orphanAfter is how long Docker must not list something that the driver has before it counts
// as deleted while no agent answered. Docker lists an endpoint once its container runs, seconds
// after CreateEndpoint.
const orphanAfter = time.Minute

// absence remembers since when things are missing that should be there.
type absence map[string]time.Time

// overdue notes which of the wanted things are present now. It returns those that have been
// missing for orphanAfter without a break, sorted.
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

// forgetOrphans removes endpoints and networks that Docker deleted while no agent answered:
// Docker logs that error and does not ask again. What the driver has is in use until Docker did
// not list it at two looks, without a failure in between.
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
		// Attachments.FinishDeletions repeats what fails. A retry after each change of the facts would
		// be endless, since each answer of the ledger changes the facts.
		r.missing[id] = time.Now()
		var err error
		if slices.Contains(wantNetworks, id) {
			err = r.cfg.Driver.ForgetNetwork(ctx, id)
		} else {
			err = r.cfg.Driver.ForgetEndpoint(ctx, netmap.EndpointID(id))
		}
		r.cfg.Log.Info("deleted, because Docker does not have it any more", "id", id, "err", err)
	}
	return nil
}

// expected returns what the driver has. For endpoints of no running container it asks Docker
// about their network and adds what Docker has to present: a container may take minutes to
// start, and its endpoint is made at the beginning.
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

// nameUnknown shows containers that Docker has on Weft's networks and whose endpoints are not
// on this host's disk, because the disk is an older copy or was lost. They are off the network.
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
		r.cfg.Problem("unknown-endpoints", "")
		return
	}
	slices.Sort(names)
	r.cfg.Problem("unknown-endpoints", fmt.Sprintf("containers that this host's state directory does not know are off the network: %s; it is an older copy, or was lost; start them again (docker restart)", strings.Join(names, ", ")))
}
