package replicate

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Disk keeps records by key. Commit returns when they are synced; a failed one has changed
// nothing.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// removals are the networks that a user removed from the local Docker and of which the
// ledger is still to hear: else they would be made anew as replicas. They are on disk
// before Docker is answered, as an agent that is started again cannot tell one from a
// network that was never here. Safe for concurrent use.
type removals struct {
	disk Disk

	writing turn.Turn            // held while the disk is written
	listed  map[string]dockerNet // by Docker's id, as of the last look
	own     map[string]bool      // removed by this agent
	gone    map[string]removal   // by a user
}

// removal is what is on disk, under Docker's id of the network.
type removal struct {
	Network netmap.NetworkID `json:"network"`
	Name    string           `json:"name"`
	Replica bool             `json:"replica,omitempty"`
}

func openRemovals(disk Disk) (*removals, error) {
	r := &removals{disk: disk, writing: turn.New(), listed: map[string]dockerNet{}, own: map[string]bool{}, gone: map[string]removal{}}
	kept, err := disk.Load()
	if err != nil {
		return nil, err
	}
	for id, raw := range kept {
		var one removal
		if err := json.Unmarshal(raw, &one); err != nil {
			return nil, fmt.Errorf("replicate: the removal of network %.12s on disk is damaged: %w; restore the state directory or run weft cleanup", id, err)
		}
		r.gone[id] = one
	}
	return r, nil
}

// deleted hears from Docker that a network goes. What it never listed was never a
// network: it gives one up that it could not make.
func (r *removals) deleted(id string) error {
	defer r.writing.Wait()()
	return r.miss(id)
}

// looked takes in what Docker lists now.
func (r *removals) looked(now map[string]dockerNet) error {
	defer r.writing.Wait()()
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(r.listed)) {
		if _, still := now[id]; !still {
			errs = append(errs, r.miss(id))
			delete(r.own, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.gone)) {
		if _, still := now[id]; still { // or again: Docker could not remove it
			errs = append(errs, r.strike(id))
		}
	}
	r.listed = now
	return errors.Join(errs...)
}

// miss writes down that a user removed a network. The caller is writing.
func (r *removals) miss(id string) error {
	d := r.listed[id]
	if _, noted := r.gone[id]; noted || d.Network == 0 || r.own[id] {
		return nil
	}
	r.gone[id] = removal{Network: d.Network, Name: d.Name, Replica: d.Replica}
	raw, err := json.Marshal(r.gone[id])
	if err == nil {
		err = r.disk.Commit(map[string][]byte{id: raw})
	}
	if err != nil {
		return fmt.Errorf("replicate: the removal of network %s is not on disk, and is forgotten if the agent ends before the cluster has heard of it: %w", d.Name, err)
	}
	return nil
}

// strike forgets a removal. The caller is writing.
func (r *removals) strike(id string) error {
	delete(r.gone, id)
	if err := r.disk.Commit(nil, id); err != nil {
		return fmt.Errorf("replicate: the removal of network %.12s is not struck off the disk: %w", id, err)
	}
	return nil
}

// done ends a removal that the ledger has heard of, or that the user took back.
func (r *removals) done(id string) error {
	defer r.writing.Wait()()
	return r.strike(id)
}

// byAgent says that this agent itself removes a network, or that it could not.
func (r *removals) byAgent(id string, removes bool) {
	defer r.writing.Wait()()
	delete(r.own, id)
	if removes {
		r.own[id] = true
	}
}

// pending are the removals that the ledger is still to hear of.
func (r *removals) pending() map[string]removal {
	defer r.writing.Wait()()
	return maps.Clone(r.gone)
}

// was is which network a Docker network was at the last look, 0 if none.
func (r *removals) was(id string) netmap.NetworkID {
	defer r.writing.Wait()()
	return r.listed[id].Network
}
