package attach

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// endpoints are this host's endpoints, by id and by address. The index by address exists
// because the IPAM looks up the holder of each address that it hands out or releases. Not
// safe for concurrent use.
type endpoints struct {
	byID map[netmap.EndpointID]EndpointRecord
	at   map[netip.Addr][]netmap.EndpointID // sorted; several only while all but one are deleted or evicted
}

func newEndpoints() endpoints {
	return endpoints{map[netmap.EndpointID]EndpointRecord{}, map[netip.Addr][]netmap.EndpointID{}}
}

// put adds an endpoint, or changes it.
func (e endpoints) put(r EndpointRecord) {
	id := r.Endpoint.ID
	e.drop(id)
	e.byID[id] = r
	for _, a := range addrsOf(r.Endpoint) {
		e.at[a] = append(e.at[a], id)
		slices.Sort(e.at[a])
	}
}

func (e endpoints) drop(id netmap.EndpointID) {
	for _, a := range addrsOf(e.byID[id].Endpoint) {
		e.at[a] = slices.DeleteFunc(e.at[a], func(other netmap.EndpointID) bool { return other == id })
		if len(e.at[a]) == 0 {
			delete(e.at, a)
		}
	}
	delete(e.byID, id)
}

// holder returns the endpoint that has an address. It returns an evicted one only if no
// other endpoint has the address.
func (e endpoints) holder(a netip.Addr) (found EndpointRecord, ok bool) {
	for _, id := range e.at[a] {
		if found, ok = e.byID[id], true; found.Evicted == "" {
			break
		}
	}
	return found, ok
}

func (e endpoints) sorted() []EndpointRecord {
	out := make([]EndpointRecord, 0, len(e.byID))
	for _, id := range slices.Sorted(maps.Keys(e.byID)) {
		out = append(out, e.byID[id])
	}
	return out
}
