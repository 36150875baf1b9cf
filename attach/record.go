package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// NetworkRecord is a network of this host: one of its Docker's, or one of another owner's.
// Networks of several owners may be the same network of the cluster.
type NetworkRecord struct {
	Owner netmap.Owner `json:"owner"`
	// ID is the owner's id of the network: see netmap.OwnerOf.
	ID      string         `json:"id"`
	Network netmap.Network `json:"network"`
	// Deleted is set from when the owner removed the network until the ledger was told.
	Deleted bool `json:"deleted,omitempty"`
	// Unregistered is set when this host got a new identity, which is not yet a member of the
	// network: see Attachments.Rejoin.
	Unregistered bool `json:"unregistered,omitempty"`
}

// EndpointRecord is one endpoint of this host.
type EndpointRecord struct {
	Owner    netmap.Owner    `json:"owner"`
	Endpoint netmap.Endpoint `json:"endpoint"`
	// LocalNetwork is the ID of the NetworkRecord that the endpoint was made in.
	LocalNetwork string `json:"local_network"`
	Joined       bool   `json:"joined"` // a container has it; never while Deleted
	// Sandbox is the path of the container's network namespace as the owner sees it; empty
	// where the owner has told none.
	Sandbox string `json:"sandbox,omitempty"`
	// Detached is set when the owner took the endpoint out of its container. Docker deletes
	// the endpoint next.
	Detached bool `json:"detached,omitempty"`
	// Deleted is set from when the owner deleted the endpoint until its port and this record
	// are removed.
	Deleted bool `json:"deleted,omitempty"`
	// Evicted says why the endpoint was taken off the mesh although its owner still has it,
	// empty if it was not: see Attachments.Evict.
	Evicted string `json:"evicted,omitempty"`
}

// Prefixes of keys on disk and of keys of locks.
const (
	networkPrefix  = "network/"
	endpointPrefix = "endpoint/"
	subnetPrefix   = "subnet/"
	addressPrefix  = "address/"
)

// New reads the records that an earlier agent left on disk.
func New(cfg Config) (*Attachments, error) {
	a := &Attachments{
		cfg: cfg, locks: turn.NewKeyed(),
		networks: map[string]NetworkRecord{}, endpoints: newEndpoints(),
	}
	kept, err := cfg.Disk.Load()
	if err != nil {
		return nil, fmt.Errorf("attach: read networks and endpoints: %w", err)
	}
	for key, value := range kept {
		if err := a.restore(key, value); err != nil {
			return nil, fmt.Errorf("attach: the record %s on disk is damaged: %w; restore the state directory or run weft cleanup", key, err)
		}
	}
	return a, nil
}

var errOtherRecord = errors.New("it is the record of something else")

func (a *Attachments) restore(key string, value []byte) error {
	if id, ok := strings.CutPrefix(key, networkPrefix); ok {
		r, err := decode[NetworkRecord](value)
		if err == nil {
			err = r.check(id)
		}
		a.networks[id] = r
		return err
	}
	if id, ok := strings.CutPrefix(key, endpointPrefix); ok {
		r, err := decode[EndpointRecord](value)
		if err == nil && (string(r.Endpoint.ID) != id || r.Owner == "") {
			err = errOtherRecord
		}
		a.endpoints.put(r)
		return err
	}
	return errors.New("its kind is not known")
}

// check returns why this cannot be the record of the network with this id, nil if it can.
func (r NetworkRecord) check(id string) error {
	if r.ID != id || r.Owner == "" || r.Owner != netmap.OwnerOf(id) {
		return errOtherRecord
	}
	return nil
}

func decode[T any](value []byte) (r T, err error) {
	err = json.Unmarshal(value, &r)
	return r, err
}

// network returns a network that is not deleted.
func (a *Attachments) network(id string) (NetworkRecord, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.networks[id]
	return r, ok && !r.Deleted
}

// markNetworkDeleted marks a network as deleted in memory, so it stays deleted even if the disk
// or the ledger fails now. It reports whether there is such a network.
func (a *Attachments) markNetworkDeleted(id string) (NetworkRecord, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.networks[id]
	if ok {
		r.Deleted = true
		a.networks[id] = r
	}
	return r, ok
}

// markEndpointDeleted does the same for an endpoint.
func (a *Attachments) markEndpointDeleted(id netmap.EndpointID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.endpoints.byID[id]
	if ok {
		r.Deleted, r.Joined = true, false
		a.endpoints.put(r)
	}
	return ok
}

func (a *Attachments) saveNetwork(r NetworkRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if err := a.cfg.Disk.Commit(map[string][]byte{networkPrefix + r.ID: b}); err != nil {
		return fmt.Errorf("attach: keep network %s on disk: %w", short(r.ID), err)
	}
	a.mu.Lock()
	a.networks[r.ID] = r
	a.mu.Unlock()
	a.cfg.Ports.Changed()
	return nil
}

func (a *Attachments) forgetNetwork(id string) error {
	if err := a.cfg.Disk.Commit(nil, networkPrefix+id); err != nil {
		return fmt.Errorf("attach: forget network %s on disk: %w", short(id), err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.networks, id)
	return nil
}

// saveEndpoint writes an endpoint to disk and then to memory. It fails if the owner has deleted
// the endpoint meanwhile.
func (a *Attachments) saveEndpoint(r EndpointRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	id := r.Endpoint.ID
	if err := a.cfg.Disk.Commit(map[string][]byte{endpointPrefix + string(id): b}); err != nil {
		return fmt.Errorf("attach: keep endpoint %s on disk: %w", short(string(id)), err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.endpoints.byID[id].Deleted && !r.Deleted {
		return fmt.Errorf("attach: endpoint %s was deleted meanwhile; start the container again", short(string(id)))
	}
	a.endpoints.put(r)
	return nil
}

func (a *Attachments) forgetEndpoint(id netmap.EndpointID) error {
	if err := a.cfg.Disk.Commit(nil, endpointPrefix+string(id)); err != nil {
		return fmt.Errorf("attach: forget endpoint %s on disk: %w", short(string(id)), err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endpoints.drop(id)
	return nil
}
