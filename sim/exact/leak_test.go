package exact_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
)

const (
	goesBack  = 12 * time.Minute // in which nearly all that nobody uses has gone back
	hindered  = 8 * time.Minute  // and that many more if it was an address that was lent, or nobody knew of
	forgotten = 6 * time.Minute  // in which nothing is left of networks that were removed
	lull      = 20               // how many times less often is looked whether anything is new, where nothing is
)

// drain removes all containers and waits until their addresses were returned. Then it removes all
// networks and waits until nothing is left of them.
func (w *world) drain() {
	w.lull = lull
	w.everywhere("rm all", (*machine).removeAll)
	w.run(w.now() + goesBack)
	w.eventually("what nobody uses goes back", hindered, w.kept)
	w.eventually("nobody is counted among the users of what he does not have", hindered, w.miscounted)
	w.everywhere("network rm all", (*machine).removeNetworks)
	w.eventually("what nobody uses is gone", forgotten, w.remains)
}

// everywhere does something on all machines and waits for the end of it.
func (w *world) everywhere(name string, do func(*machine) func(context.Context) error) {
	for _, m := range w.machines {
		m.act(action{name: name, alone: true, do: do})
	}
	w.eventually("(10) every call of Docker ends", 3*time.Minute, w.waits)
}

func (m *machine) removeAll() func(context.Context) error {
	list := m.docker.Containers()
	return func(ctx context.Context) error {
		for _, c := range list {
			_ = m.docker.Remove(ctx, c.Name) // what the plugin says is judged by after
		}
		return nil
	}
}

func (m *machine) removeNetworks() func(context.Context) error {
	return func(ctx context.Context) error {
		var errs []error
		for _, spec := range networks {
			if id := m.network(spec.Name); id != "" {
				errs = append(errs, m.docker.RemoveNetwork(ctx, id))
			}
		}
		return errors.Join(errs...)
	}
}

// remains returns what the ledger or a disk still has of networks that were removed, empty if
// nothing.
func (w *world) remains() string {
	for _, c := range w.ledger.state.Changes() {
		switch c.Value.(type) {
		case netmap.Network, netmap.Subnet, netmap.Block, netmap.Claim:
			return fmt.Sprintf("the ledger has %s", c.Key)
		}
	}
	for _, m := range w.machines {
		for _, key := range slices.Sorted(maps.Keys(m.disk.data)) {
			if !m.buried && (strings.HasPrefix(key, "ipam ") || strings.HasPrefix(key, "attach ")) {
				return fmt.Sprintf("%s has on its disk %s", m, key)
			}
		}
	}
	return ""
}

// reserve returns how many addresses of a subnet a member keeps, at least one block: of a default
// subnet half of what it asks for at once, beside the gateway and the edges.
func reserve(subnet netip.Prefix) uint64 {
	if subnet.Bits() == 20 {
		return 32 + 3
	}
	return 1
}

// kept returns what is still to be returned of addresses that no container has, empty if nothing. In
// the ledger no host may have a claim, and a member at most one block of a subnet, or its reserve
// (docs/decisions/0011, 0039). The disk of a host must have the same: no address held, none that
// belongs to another host, and nothing that the ledger has not been told.
func (w *world) kept() string {
	keeps := map[string]uint64{} // addresses by host and subnet
	has := map[string]bool{}     // by host and record
	further := ""
	for _, c := range w.ledger.state.Changes() {
		switch v := c.Value.(type) {
		case netmap.Claim:
			return fmt.Sprintf("%s has a claim, %s", w.named(v.Owner), v.Addr)
		case netmap.Block:
			key := fmt.Sprintf("%s of %s", w.named(v.Owner), v.Subnet)
			if keeps[key] >= reserve(v.Subnet) {
				further = fmt.Sprintf("%s has a further block, %s", key, v.Prefix)
			}
			keeps[key] += netmap.Size(v.Prefix)
			has[fmt.Sprintf("%s ipam block/%s", v.Owner, v.Prefix)] = true
		}
	}
	for _, m := range w.machines {
		if m.buried {
			continue
		}
		for _, record := range m.rights() {
			key := fmt.Sprintf("%s %s", m.identity(), record)
			if !has[key] {
				return fmt.Sprintf("%s has on its disk %s", m, record)
			}
			delete(has, key)
		}
	}
	if left := slices.Sorted(maps.Keys(has)); len(left) > 0 {
		return "no host knows that it has " + left[0]
	}
	return further
}

// rights returns the keys of records on a machine's disk which say that an address belongs to it or
// to another host, sorted.
func (m *machine) rights() (out []string) {
	for key, raw := range m.disk.data {
		kind, _, _ := strings.Cut(strings.TrimPrefix(key, "ipam "), "/")
		switch kind {
		case "block", "claim", "return", "unclaim", "release":
			out = append(out, key)
		case "addr":
			var u pool.Use
			if json.Unmarshal(raw, &u) != nil || u.Held {
				out = append(out, key)
			}
		case "foreign":
			var to netmap.HostID // zero: reserved
			if json.Unmarshal(raw, &to) != nil || !to.IsZero() {
				out = append(out, key)
			}
		}
	}
	slices.Sort(out)
	return out
}

// miscounted returns a host that uses a subnet or is in a network according to the ledger, and not
// according to its disk. The facts do not have that.
func (w *world) miscounted() string {
	raw, err := w.ledger.state.Encode()
	var state struct {
		Body struct {
			Subnets []struct {
				Subnet  netmap.Subnet
				Holders []netmap.HostID
			}
			Networks []struct {
				Network netmap.Network
				Members []netmap.HostID
			}
		}
	}
	if err = errors.Join(err, json.Unmarshal(raw, &state)); err != nil {
		return err.Error()
	}
	for _, s := range state.Body.Subnets {
		for _, id := range s.Holders {
			if m := w.who(id); m == nil || m.disk.data["ipam subnet/"+s.Subnet.Prefix.String()] == nil {
				return fmt.Sprintf("%s uses %s", w.named(id), s.Subnet.Prefix)
			}
		}
	}
	for _, n := range state.Body.Networks {
		for _, id := range n.Members {
			if m := w.who(id); m == nil || !m.inNetwork(n.Network.ID) {
				return fmt.Sprintf("%s is in network %d, %s", w.named(id), n.Network.ID, n.Network.Subnets)
			}
		}
	}
	return ""
}

// inNetwork reports whether a machine is in a network according to its disk.
func (m *machine) inNetwork(id netmap.NetworkID) bool {
	for key, raw := range m.disk.data {
		var r attach.NetworkRecord
		if strings.HasPrefix(key, "attach network/") && json.Unmarshal(raw, &r) == nil && r.Network.ID == id {
			return true
		}
	}
	return false
}

// named returns the name of the machine that has an identity, or the identity if none has it.
func (w *world) named(id netmap.HostID) string {
	if m := w.who(id); m != nil {
		return m.String()
	}
	return id.Short()
}

// who returns the machine that has an identity, nil if none has it any more.
func (w *world) who(id netmap.HostID) *machine {
	i := slices.IndexFunc(w.machines, func(m *machine) bool { return !m.buried && m.identity() == id })
	if i < 0 {
		return nil
	}
	return w.machines[i]
}

// removeDead removes the members that no machine is any more, as `weft host rm` does.
func (w *world) removeDead() {
	i := slices.IndexFunc(w.machines, func(m *machine) bool { return m.serves() && !m.life.fenced })
	if i < 0 {
		return
	}
	at := w.machines[i]
	l := at.life
	for _, id := range slices.SortedFunc(maps.Keys(w.ledger.heard), func(a, b netmap.HostID) int { return slices.Compare(a[:], b[:]) }) {
		if w.who(id) != nil || w.ledger.removed[id].index > 0 {
			continue
		}
		go func() {
			_, err := l.agent.RemoveHost(l.ctx, api.Removal{Host: id.String(), IsOff: true})
			w.arrive(at.n, "2 host rm "+id.String(), func() { w.note("%s: host rm %s: %v", at, id.Short(), err) })
		}()
	}
}
