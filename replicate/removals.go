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

// Disk keeps records by key. Commit returns when they are synced; a Commit that fails changes
// nothing.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// removals are the networks that a user removed from the local Docker and that the ledger has
// yet to retire; without this record replication would make them again. They are on disk before
// Docker is answered, because an agent that restarts cannot tell a removed network from one
// that was never here. Safe for concurrent use.
type removals struct {
	disk Disk

	writing turn.Turn            // held while the disk is written
	listed  map[string]dockerNet // by Docker's id, as of the last look
	own     map[string]bool      // removed by this agent
	gone    map[string]removal   // by a user
}

// removal is one record, under Docker's id of the network.
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

// deleted is called when Docker deletes a network. If Docker never listed it, it was being
// created, and Docker undoes that.
func (r *removals) deleted(id string) error {
	defer r.writing.Wait()()
	return r.miss(id)
}

// looked notes which networks Docker lists now.
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
		if _, still := now[id]; still { // or there again: Docker could not remove it
			errs = append(errs, r.strike(id))
		}
	}
	r.listed = now
	return errors.Join(errs...)
}

// miss writes a removal by a user to disk. The caller holds writing.
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
		return fmt.Errorf("replicate: the removal of network %s cannot be written to disk, and is forgotten if the agent ends before the cluster has heard of it: %w", d.Name, err)
	}
	return nil
}

// strike deletes a removal. The caller holds writing.
func (r *removals) strike(id string) error {
	delete(r.gone, id)
	if err := r.disk.Commit(nil, id); err != nil {
		return fmt.Errorf("replicate: the removal of network %.12s cannot be deleted from disk: %w", id, err)
	}
	return nil
}

// done deletes a removal that the ledger has carried out, or that the user took back.
func (r *removals) done(id string) error {
	defer r.writing.Wait()()
	return r.strike(id)
}

// byAgent notes that this agent removes a network, or that it could not.
func (r *removals) byAgent(id string, removes bool) {
	defer r.writing.Wait()()
	delete(r.own, id)
	if removes {
		r.own[id] = true
	}
}

// pending returns the removals that the ledger has yet to carry out.
func (r *removals) pending() map[string]removal {
	defer r.writing.Wait()()
	return maps.Clone(r.gone)
}

// was returns which network a Docker network was at the last look, 0 if none.
func (r *removals) was(id string) netmap.NetworkID {
	defer r.writing.Wait()()
	return r.listed[id].Network
}
