package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// NetworkRecord is one network of this host's Docker.
type NetworkRecord struct {
	Docker  string         `json:"docker"` // Docker's network id
	Network netmap.Network `json:"network"`
	// Deleted is set when Docker removed the network and the ledger has not heard
	// of it yet.
	Deleted bool `json:"deleted,omitempty"`
	// Stray is set when this host took another identity, under which it is no member
	// of the network yet: see Driver.Rejoin.
	Stray bool `json:"stray,omitempty"`
}

// EndpointRecord is one endpoint of this host's Docker.
type EndpointRecord struct {
	Endpoint netmap.Endpoint `json:"endpoint"`
	Docker   string          `json:"docker"` // Docker's network id
	Joined   bool            `json:"joined"` // a container has it; never while Deleted
	// Detached is set when Docker took the endpoint out of its container. It deletes it next.
	Detached bool `json:"detached,omitempty"`
	// Deleted is set when Docker deleted the endpoint and its port or its record
	// could not be removed yet.
	Deleted bool `json:"deleted,omitempty"`
	// Evicted says why the endpoint was taken off the mesh although Docker still has it,
	// empty if it was not: see Driver.Evict.
	Evicted string `json:"evicted,omitempty"`
}

// Keys on disk, and of what calls take turns for.
const (
	networkPrefix  = "network/"
	endpointPrefix = "endpoint/"
	subnetPrefix   = "subnet/"
	addressPrefix  = "address/"
)

// New reads what an earlier agent left on disk.
func New(cfg Config) (*Driver, error) {
	d := &Driver{
		cfg: cfg, locks: keyedLock{taken: map[string]chan struct{}{}},
		networks: map[string]NetworkRecord{}, endpoints: newEndpoints(),
	}
	kept, err := cfg.Disk.Load()
	if err != nil {
		return nil, fmt.Errorf("driver: read networks and endpoints: %w", err)
	}
	for key, value := range kept {
		if err := d.restore(key, value); err != nil {
			return nil, fmt.Errorf("driver: the record %s on disk is damaged: %w; restore the state directory or run weft cleanup", key, err)
		}
	}
	return d, nil
}

var errOtherRecord = errors.New("it is the record of something else")

func (d *Driver) restore(key string, value []byte) error {
	if id, ok := strings.CutPrefix(key, networkPrefix); ok {
		r, err := decode[NetworkRecord](value)
		if err == nil && r.Docker != id {
			err = errOtherRecord
		}
		d.networks[id] = r
		return err
	}
	if id, ok := strings.CutPrefix(key, endpointPrefix); ok {
		r, err := decode[EndpointRecord](value)
		if err == nil && string(r.Endpoint.ID) != id {
			err = errOtherRecord
		}
		d.endpoints.put(r)
		return err
	}
	return errors.New("its kind is not known")
}

func decode[T any](value []byte) (r T, err error) {
	err = json.Unmarshal(value, &r)
	return r, err
}

// network is a network that Docker has.
func (d *Driver) network(id string) (NetworkRecord, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.networks[id]
	return r, ok && !r.Deleted
}

// Endpoint is an endpoint that Docker has.
func (d *Driver) Endpoint(id netmap.EndpointID) (EndpointRecord, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.endpoints.byID[id]
	return r, ok && !r.Deleted
}

// markNetworkDeleted marks a network in memory: from now on it is not Docker's, whatever
// happens to disk and ledger. It reports whether there is one.
func (d *Driver) markNetworkDeleted(id string) (NetworkRecord, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.networks[id]
	if ok {
		r.Deleted = true
		d.networks[id] = r
	}
	return r, ok
}

// markEndpointDeleted is the same for an endpoint.
func (d *Driver) markEndpointDeleted(id netmap.EndpointID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.endpoints.byID[id]
	if ok {
		r.Deleted, r.Joined = true, false
		d.endpoints.put(r)
	}
	return ok
}

func (d *Driver) saveNetwork(r NetworkRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	if err := d.cfg.Disk.Commit(map[string][]byte{networkPrefix + r.Docker: b}); err != nil {
		return fmt.Errorf("driver: keep network %s on disk: %w", short(r.Docker), err)
	}
	d.mu.Lock()
	d.networks[r.Docker] = r
	d.mu.Unlock()
	d.cfg.Ports.Changed()
	return nil
}

func (d *Driver) forgetNetwork(id string) error {
	if err := d.cfg.Disk.Commit(nil, networkPrefix+id); err != nil {
		return fmt.Errorf("driver: forget network %s on disk: %w", short(id), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.networks, id)
	return nil
}

// saveEndpoint writes an endpoint to disk, and to memory unless it was deleted
// meanwhile: what Docker deleted does not come back.
func (d *Driver) saveEndpoint(r EndpointRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	id := r.Endpoint.ID
	if err := d.cfg.Disk.Commit(map[string][]byte{endpointPrefix + string(id): b}); err != nil {
		return fmt.Errorf("driver: keep endpoint %s on disk: %w", short(string(id)), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.endpoints.byID[id].Deleted && !r.Deleted {
		return fmt.Errorf("driver: endpoint %s was deleted meanwhile; start the container again", short(string(id)))
	}
	d.endpoints.put(r)
	return nil
}

func (d *Driver) forgetEndpoint(id netmap.EndpointID) error {
	if err := d.cfg.Disk.Commit(nil, endpointPrefix+string(id)); err != nil {
		return fmt.Errorf("driver: forget endpoint %s on disk: %w", short(string(id)), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endpoints.drop(id)
	return nil
}

// short is an id as Docker's tables show it.
func short(id string) string { return id[:min(12, len(id))] }
