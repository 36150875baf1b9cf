package consul

import (
	"maps"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// registered is a service as the Consul agent has it.
type registered struct {
	Service string // name
	Tags    []string
	Address string
	Port    int
	Meta    map[string]string
}

// same reports whether a service is registered as it is wanted.
func (r registered) same(s Service) bool {
	has, want := slices.Sorted(slices.Values(r.Tags)), slices.Sorted(slices.Values(s.Tags))
	return r.Service == s.Name && r.Address == s.Address && r.Port == int(s.Port) && slices.Equal(has, want) && r.Meta[metaDigest] == s.Meta[metaDigest]
}

// plan returns which services are to be registered and which deregistered. Of those that are
// not wanted it names only those for which ours returns true.
func plan(want []Service, has map[string]registered, ours func(host netmap.HostID, endpoint string) bool) (register []Service, deregister []string) {
	wanted := map[string]bool{}
	for _, s := range want {
		wanted[s.ID] = true
		if r, ok := has[s.ID]; !ok || !r.same(s) {
			register = append(register, s)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(has)) {
		if host, endpoint, ok := splitID(id); ok && !wanted[id] && ours(host, endpoint) {
			deregister = append(deregister, id)
		}
	}
	return register, deregister
}
