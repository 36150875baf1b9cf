package exact_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// answerLimit is invariant 10.
const answerLimit = 5 * time.Second

// answered checks an answer that Docker was given.
func (w *world) answered(m *machine, c plugintest.Call) {
	if c.Took > answerLimit {
		w.wrong("(10) %s: %s took %v", m, c.Method, c.Took)
	}
	if c.Err != nil {
		if errors.Is(c.Err, plugintest.ErrDown) {
			w.meet("Docker gave up: " + c.Method)
		}
		w.note("%s: %s: %v", m, c.Method, c.Err)
		return
	}
	if c.Method != "IpamDriver.RequestAddress" || c.Container == "" {
		return
	}
	var r ipam.AddressResponse
	if err := json.Unmarshal([]byte(c.Answer), &r); err != nil {
		w.wrong("%s: answer %q: %v", m, c.Answer, err)
		return
	}
	p, err := netip.ParsePrefix(r.Address)
	if err != nil {
		w.wrong("%s: answer %q: %v", m, c.Answer, err)
		return
	}
	w.granted(m, c.Container, p.Addr())
}

// granted checks invariants 1 to 4 for an address that Docker was answered.
func (w *world) granted(m *machine, container string, addr netip.Addr) {
	now := holding{m: m, identity: m.identity(), container: container, at: w.now()}
	before, taken := w.held[addr.String()]
	w.note("%s has %s for %s", m, addr, container)
	w.meet("address given")
	if !m.hasOnDisk(addr) {
		w.wrong("(3) %s answered %s, which is not on its disk", m, addr)
	}
	if taken && before.m == m && before.container == container && before.identity == now.identity {
		return // what it has stays its own
	}
	if c, ok := m.docker.Find(container); ok && c.Running && slices.ContainsFunc(c.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr }) {
		return // dockerd asks once more for what runs
	}
	if m.hasEndpoint(addr) {
		w.meet("repeated to a dockerd that started anew") // no new right; CreateEndpoint refuses whoever is not the one
		if taken && before.m != m && w.ledger.removed[now.identity].index > 0 {
			return // by a host that is no member; the address is another's meanwhile
		}
	} else if excuse := w.checkRight(m, addr); excuse != "" {
		w.meet(excuse)
		return
	}
	w.held[addr.String()] = now
	switch {
	case !taken, w.ledger.removed[before.identity].index > 0:
	case before.neverCame():
		w.meet("taken back from a container that never came")
	case before.identity == now.identity && before.m != m:
		w.meet("a clone doubled an address") // docs/addresses/arguments.md, what is not covered
	case before.m.copied && w.ledger.incarnation[before.identity] != (state.Incarnation{Start: before.m.disk.identity.Start, Nonce: before.m.disk.identity.Nonce}):
		w.meet("a clone gave away what its original had handed out") // the same
	default:
		w.wrong("(1) (2) %s was given to %s on %s and before to %s on %s", addr, container, m, before.container, before.m)
	}
}

// hasOnDisk reports whether an address is held on a machine's disk.
func (m *machine) hasOnDisk(addr netip.Addr) bool {
	var u pool.Use
	raw, ok := m.disk.data["ipam addr/"+addr.String()]
	return ok && json.Unmarshal(raw, &u) == nil && u.Held
}

// hasEndpoint reports whether an endpoint of a machine has an address, as its driver
// wrote it down.
func (m *machine) hasEndpoint(addr netip.Addr) bool {
	for key, raw := range m.disk.data {
		var r attach.EndpointRecord
		if strings.HasPrefix(key, "attach endpoint/") && json.Unmarshal(raw, &r) == nil && (r.Endpoint.V4 == addr || r.Endpoint.V6 == addr) {
			return true
		}
	}
	return false
}

// checkRight checks invariant 4 at the moment of an answer. A host that an operator removed, and one
// with an old disk, may break it until they learn of that (docs/addresses/arguments.md, what is
// not covered).
func (w *world) checkRight(m *machine, addr netip.Addr) (excuse string) {
	id := m.identity()
	gone := w.ledger.removed[id]
	l := m.life
	switch {
	case l.fenced:
		w.wrong("(4) %s hands out %s after it was told that its identity may not", m, addr)
	case gone.index > 0 && gone.byWord && l.told < gone.index && !l.facts.m.Removed(id):
		return "handed out after --is-off, unheard"
	case m.aged != nil && !m.leased() && !m.aged.inUse(addr):
		w.wrong("(4) %s hands out %s, which was not in use on the old disk that it booted with", m, addr)
	case m.aged != nil && !m.leased():
		return "handed out by an old disk, unheard"
	case m.copied && w.ledger.incarnation[id] != (state.Incarnation{Start: l.ledger.cfg.Start, Nonce: l.ledger.cfg.Nonce}):
		return "handed out by a clone, unheard"
	case gone.index > 0:
		w.wrong("(4) %s hands out %s, and was removed by decision %d", m, addr, gone.index)
	case w.ledger.truth.View().Owner(addr) != id:
		w.wrong("(4) %s (%s) hands out %s, which is %s's by decision %d", m, id.Short(), addr, w.ledger.truth.View().Owner(addr).Short(), w.ledger.state.Applied())
	}
	if left := m.lease(); left <= 0 {
		w.wrong("(4) %s hands out %s though its lease ended %v ago", m, addr, -left)
	}
	return ""
}

// lease returns how long a machine's lease still lasts by true time, counted from the last renewal
// that was decided.
func (m *machine) lease() time.Duration {
	at, ok := m.w.ledger.renewed[m.identity()]
	if !ok {
		return 0
	}
	return lease.Length + lease.Slack - (m.w.clock() - at)
}

// checkReply checks invariants 4 and 5 as far as one command shows them.
func (w *world) checkReply(cmd state.Command, r state.Reply) {
	l := w.ledger
	if gone := l.removed[cmd.Host].index; gone > 0 && gone < l.state.Applied() && cmd.Kind != state.KindFound && r.Refusal == nil {
		w.wrong("(4) %s was removed by decision %d, and is answered %s by decision %d", cmd.Host.Short(), gone, cmd.Kind, r.Index)
	}
	if newest := l.incarnation[cmd.Host]; cmd.Start < newest.Start && cmd.Kind != state.KindFound && r.Refusal == nil {
		w.wrong("(4) start %d of %s is answered %s, and start %d was admitted", cmd.Start, cmd.Host.Short(), cmd.Kind, newest.Start)
	}
	words, err := json.Marshal(r)
	if err != nil {
		w.wrong("(9) %v", err)
	}
	key := fmt.Sprintf("%s %d %d %d", cmd.Host, cmd.Start, cmd.Nonce, cmd.Request)
	if before, ok := l.replies[key]; cmd.Kind != state.KindFound && cmd.Request != 0 && ok && before != string(words) && r.Refusal == nil {
		w.wrong("(5) request %s was answered %s and now %s", key, before, words)
	}
	if r.Refusal == nil {
		l.replies[key] = string(words)
	}
	v := l.truth.View()
	if v.Decided == l.checked {
		return
	}
	l.checked = v.Decided
	for i, a := range v.Subnets {
		for _, b := range v.Subnets[:i] {
			if a.Prefix.Overlaps(b.Prefix) {
				w.wrong("(5) subnets %s and %s overlap", a.Prefix, b.Prefix)
			}
		}
	}
	for i, a := range v.Blocks {
		for _, b := range v.Blocks[:i] {
			if a.Prefix.Overlaps(b.Prefix) {
				w.wrong("(5) blocks %s and %s overlap", a.Prefix, b.Prefix)
			}
		}
	}
	for i, a := range v.Networks {
		for _, b := range v.Networks[:i] {
			if a.VNI == b.VNI || a.Name != "" && a.Name == b.Name {
				w.wrong("(5) networks %d and %d share VNI %d or name %q", a.ID, b.ID, a.VNI, a.Name)
			}
		}
	}
}

// check runs after every step: no host knows of a decision that was not made. Other checks run when
// the thing that they check happens.
func (w *world) check() {
	for _, m := range w.machines {
		if m.serves() && m.life.facts.decided() > w.ledger.state.Applied() {
			w.wrong("(5) %s knows decision %d, the newest is %d", m, m.life.facts.decided(), w.ledger.state.Applied())
		}
	}
}

// checkDisk is invariant 3 after a crash.
func (w *world) checkDisk(m *machine) {
	for _, addr := range w.heldBy(m) {
		if !m.hasOnDisk(netip.MustParseAddr(addr)) && w.held[addr].identity == m.identity() {
			w.wrong("(3) after a crash the disk of %s does not hold %s, which Docker was answered", m, addr)
		}
	}
}

// heldBy lists what Docker has on a machine, sorted.
func (w *world) heldBy(m *machine) (out []string) {
	for addr, h := range w.held {
		if h.m == m {
			out = append(out, addr)
		}
	}
	slices.Sort(out)
	return out
}

// untold returns where the facts of a host differ from the ledger.
func (w *world) untold(m *machine) string {
	var blocks []netmap.Block
	var claims []netmap.Claim
	for _, c := range w.ledger.state.Changes() {
		switch v := c.Value.(type) {
		case netmap.Block:
			blocks = append(blocks, v)
		case netmap.Claim:
			claims = append(claims, v)
		}
	}
	view := m.life.facts.m.View()
	byPrefix := cmpopts.SortSlices(func(a, b netmap.Block) bool { return a.Prefix.Compare(b.Prefix) < 0 })
	byAddr := cmpopts.SortSlices(func(a, b netmap.Claim) bool { return a.Addr.Less(b.Addr) })
	return cmp.Diff(blocks, view.Blocks, plain, byPrefix) + cmp.Diff(claims, view.Claims, plain, byAddr)
}

// differences returns where ledger, facts or kernels differ; it is empty once all are equal
// (invariant 8).
func (w *world) differences() string {
	var first *machine
	for _, m := range w.machines {
		if !m.serves() {
			continue
		}
		if first == nil {
			first = m
			if diff := w.untold(m); diff != "" {
				return fmt.Sprintf("(8) the facts of %s are not what the ledger says (-ledger +facts):\n%s", m, diff)
			}
		}
		if m.life.facts.m.Digest() != first.life.facts.m.Digest() {
			return fmt.Sprintf("(8) %s and %s see different facts: %s", first, m, cmp.Diff(first.life.facts.m.View(), m.life.facts.m.View(), plain))
		}
		want := m.life.agent.Desired()
		if want.Keep {
			return fmt.Sprintf("(8) %s is not synced", m)
		}
		if diff := cmp.Diff(want.Networks, m.kernel.state.Networks, plain); diff != "" {
			return fmt.Sprintf("(8) the kernel of %s is not what its facts say (-facts +kernel):\n%s", m, diff)
		}
	}
	return ""
}

var plain = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Exporter(func(t reflect.Type) bool { return strings.HasSuffix(t.PkgPath(), "/netmap") }),
}

// checkHolders compares the containers of all Dockers at the end: no two have the same address.
func (w *world) checkHolders() {
	seen := map[netip.Addr]string{}
	for _, m := range w.machines {
		for _, c := range m.docker.Containers() {
			for _, a := range c.Addrs {
				if m.lost(c.Endpoint) {
					continue
				}
				if other, twice := seen[a.Addr()]; twice && !m.off {
					w.wrong("(1) %s is held by %s and by %s on %s", a.Addr(), other, c.Name, m)
				}
				seen[a.Addr()] = c.Name + " on " + m.String()
			}
		}
	}
}

// lost reports whether an endpoint was taken off the mesh because its address was given
// away while its host was removed.
func (m *machine) lost(id netmap.EndpointID) bool {
	var r attach.EndpointRecord
	return json.Unmarshal(m.disk.data["attach endpoint/"+string(id)], &r) == nil && r.Evicted != ""
}

// oneMore checks liveness: once all faults have ended, every host can start a container on a network
// that has free addresses.
func (m *machine) oneMore() {
	w := m.w
	m.busy++
	name := fmt.Sprintf("last-%d", m.n)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	go func() {
		defer cancel()
		err := m.tryOneMore(ctx, name)
		for ; err != nil && ctx.Err() == nil; err = m.tryOneMore(ctx, name) {
			time.Sleep(5 * time.Second) // the agent finds out what Docker dropped
		}
		w.arrive(m.n, "2 done last", func() {
			m.busy--
			if err != nil {
				w.wrong("after everything healed %s cannot start a container: %v", m, err)
			}
			m.works = true
		})
	}()
}

func (m *machine) tryOneMore(ctx context.Context, name string) error {
	id := m.network("dual")
	if id == "" {
		var err error
		if id, err = m.docker.CreateNetwork(ctx, networks[1]); err != nil {
			return err
		}
	}
	_, err := m.docker.Run(ctx, name, id, netip.Addr{})
	return err
}
