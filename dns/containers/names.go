package containers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Disk is one bucket of what survives restarts. Commit returns when it is synced.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Names has the names of this host's containers by their endpoints, as Docker told them last.
// They are on disk, so that an agent that starts again does not take them from the other hosts
// until Docker has told them again. Safe for concurrent use.
type Names struct {
	disk    Disk
	changed chan struct{} // holds a token after a change

	mu      sync.Mutex
	known   map[netmap.EndpointID]called
	unsaved map[netmap.EndpointID]struct{}
}

// called is also what is on disk.
type called struct {
	Names netmap.EndpointName
	First bool
}

// OpenNames reads the names that an earlier agent knew.
func OpenNames(disk Disk) (*Names, error) {
	n := &Names{disk: disk, changed: make(chan struct{}, 1), known: map[netmap.EndpointID]called{}, unsaved: map[netmap.EndpointID]struct{}{}}
	kept, err := disk.Load()
	if err != nil {
		return nil, fmt.Errorf("containers: read the names of containers: %w", err)
	}
	for id, value := range kept {
		id, c := netmap.EndpointID(id), called{}
		if json.Unmarshal(value, &c) == nil {
			n.known[id] = c
		} else { // Docker tells it again
			n.touch(id)
		}
	}
	return n, nil
}

// Keep forgets the endpoints for which there returns false.
func (n *Names) Keep(there func(netmap.EndpointID) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.known {
		if !there(id) {
			delete(n.known, id)
			n.touch(id)
		}
	}
}

// Put has the names of an endpoint from now on. It reports whether they are others than before.
// First says that the endpoint's network comes before the others of its container.
func (n *Names) Put(id netmap.EndpointID, names netmap.EndpointName, first bool) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names.Endpoint = id
	old := n.known[id]
	n.known[id] = called{names, first}
	if reflect.DeepEqual(old, n.known[id]) {
		return false
	}
	n.touch(id)
	return true
}

// Save writes to disk what has changed since the last Save that succeeded.
func (n *Names) Save() error {
	n.mu.Lock()
	changed := n.unsaved
	n.unsaved = map[netmap.EndpointID]struct{}{}
	set, gone := map[string][]byte{}, []string(nil)
	for id := range changed {
		if c, ok := n.known[id]; !ok {
			gone = append(gone, string(id))
		} else if value, err := json.Marshal(c); err == nil { // strings and numbers
			set[string(id)] = value
		}
	}
	n.mu.Unlock()
	if len(changed) == 0 {
		return nil
	}
	slices.Sort(gone)
	err := n.disk.Commit(set, gone...)
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		maps.Copy(n.unsaved, changed)
	}
	return err
}

func (n *Names) touch(id netmap.EndpointID) {
	n.unsaved[id] = struct{}{}
	turn.Poke(n.changed)
}

// Of returns the names of an endpoint. The name of its container is empty while Docker has not
// told it.
func (n *Names) Of(id netmap.EndpointID) (names netmap.EndpointName, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.known[id]
	c.Names.Endpoint = id
	return c.Names, c.First
}

// Container returns the name of an endpoint's container; empty while it is unknown.
func (n *Names) Container(id netmap.EndpointID) string {
	names, _ := n.Of(id)
	return names.Name
}

// Named returns an endpoint with the name of its container, and its names, as far as they are
// known. The name of a container that is not Docker's is on disk with its endpoint.
func (n *Names) Named(e netmap.Endpoint) (netmap.Endpoint, netmap.EndpointName) {
	names, _ := n.Of(e.ID)
	names.Name = cmp.Or(names.Name, e.Name)
	e.Name = names.Name
	return e, names
}

// Drop forgets an endpoint. It returns the name of the container that it was in.
func (n *Names) Drop(id netmap.EndpointID) (container string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.known[id]
	if ok {
		delete(n.known, id)
		n.touch(id)
	}
	return c.Names.Name
}
