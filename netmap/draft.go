package netmap

import (
	"cmp"
)

// draft is the next View while it is made: the lists of the last one, and the edits that they
// wait for. A list without edits is the same memory in both views.
type draft struct {
	view    View
	changed bool // the view is another one than before, not only in Decided

	touched   map[HostID]struct{} // hosts of which a record changed
	hosts     edits[HostView]
	networks  edits[Network]
	subnets   edits[Subnet]
	blocks    edits[Block]
	claims    edits[Claim]
	ranges    edits[Range]
	names     edits[StaticName]
	endpoints map[part]edits[*EndpointView]
	places
}

func newDraft(cluster ClusterID) draft {
	return draft{
		view: View{Cluster: cluster}, touched: map[HostID]struct{}{}, endpoints: map[part]edits[*EndpointView]{},
		places: places{holders: map[place]*announced{}, contested: map[place]map[*announced]struct{}{}, open: map[place]struct{}{}},
	}
}

// part names the endpoints of one host on one network.
type part struct {
	network NetworkID
	host    HostID
}

// decided edits the list of a record that only the ledger writes.
func (d *draft) decided(noun any, gone bool) {
	switch n := noun.(type) {
	case HostEntry:
		d.touched[n.ID] = struct{}{}
	case Network:
		d.networks.put(n, gone)
	case Subnet:
		d.subnets.put(n, gone)
	case Block:
		d.blocks.put(n, gone)
	case Claim:
		d.claims.put(n, gone)
	case Range:
		d.ranges.put(n, gone)
	case StaticName:
		d.names.put(n, gone)
	}
}

// show edits whether an endpoint is in the view.
func (d *draft) show(e *EndpointView, gone bool) {
	p := part{e.Network, e.Host}
	list := d.endpoints[p]
	list.put(e, gone)
	d.endpoints[p] = list
}

// finishDecided carries out the edits of what the ledger decides. It reports whether the owner
// of an address may be another one than before.
func (d *draft) finishDecided() (owners bool) {
	v := &d.view
	owners = len(d.blocks)+len(d.claims) > 0
	d.changed = d.changed || owners || len(d.hosts)+len(d.networks)+len(d.subnets)+len(d.ranges)+len(d.names) > 0
	v.Hosts = d.hosts.applied(v.Hosts, func(a, b HostView) int { return a.ID.Compare(b.ID) })
	v.Networks = d.networks.applied(v.Networks, func(a, b Network) int { return cmp.Compare(a.ID, b.ID) })
	v.Subnets = d.subnets.applied(v.Subnets, func(a, b Subnet) int { return a.Prefix.Compare(b.Prefix) })
	v.Blocks = d.blocks.applied(v.Blocks, func(a, b Block) int { return a.Prefix.Compare(b.Prefix) })
	v.Claims = d.claims.applied(v.Claims, func(a, b Claim) int { return a.Addr.Compare(b.Addr) })
	v.Ranges = d.ranges.applied(v.Ranges, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), a.Prefix.Compare(b.Prefix))
	})
	v.StaticNames = d.names.applied(v.StaticNames, StaticName.Compare)
	return owners
}

// finishEndpoints makes the parts that changed anew, and the lists that point to them.
func (d *draft) finishEndpoints() {
	parts := map[NetworkID]edits[*onHost]{}
	for p, changes := range d.endpoints {
		h := &onHost{id: p.host}
		h.all = changes.applied(d.view.onNetwork(p.network).onHost(p.host).endpoints(), compareOnHost)
		list := parts[p.network]
		list.put(h, len(h.all) == 0)
		parts[p.network] = list
	}
	d.changed = d.changed || len(d.endpoints) > 0
	clear(d.endpoints)
	var networks edits[*onNetwork]
	for id, changes := range parts {
		n := &onNetwork{id: id}
		n.hosts = changes.applied(d.view.onNetwork(id).parts(), compareHosts)
		networks.put(n, len(n.hosts) == 0)
	}
	d.view.endpoints = networks.applied(d.view.endpoints, compareNetworks)
}

// View returns an immutable view of all facts as they are now: the same pointer until they
// change. What has not changed since the view before is shared with it.
//
// It has a record only from the writer that may write it: decisions from the ledger, facts
// and endpoints of a host from that host. An endpoint that lost an address to another one
// is in Disputes instead.
func (m *Map) View() *View { return m.view }

// settle makes the view that follows from what has been noted. It reports whether more than
// View.Decided changed.
func (m *Map) settle() (changed bool) {
	d := &m.next
	for id := range d.touched {
		h, known := m.host(id)
		if old, was := d.view.Host(id); was != known || h != old {
			d.hosts.put(h, !known)
		}
	}
	clear(d.touched)
	if d.finishDecided() {
		d.openAll()
	}
	d.resolve()
	d.finishEndpoints()
	if l := m.logs[m.cluster]; l != nil {
		d.changed = d.changed || d.view.Generation != l.life
		d.view.Decided, d.view.Generation = l.seq, l.life
	}
	changed = d.changed
	if d.changed = false; changed || d.view.Decided != m.view.Decided {
		view := d.view
		m.view = &view
	}
	return changed
}

// host is what the logs tell of a host, false if nothing.
func (m *Map) host(id HostID) (HostView, bool) {
	h := HostView{ID: id}
	var said, decided bool
	if l := m.logs[id]; l != nil && id != m.cluster {
		h.Fact, said = l.entries[HostFactKey(id)].noun.(HostFact)
	}
	if l := m.logs[m.cluster]; l != nil {
		h.Entry, decided = l.entries[HostEntryKey(id)].noun.(HostEntry)
	}
	return h, said || decided
}

// noteFrom is the note of an origin's log: it edits the draft as far as the origin may.
func (m *Map) noteFrom(origin ID) func(k Key, old, now entry) any {
	return func(k Key, old, now entry) any {
		switch {
		case origin != m.cluster:
			return m.noteAnnounced(origin, k, old, now)
		case !old.same(now):
			m.next.decided(old.noun, true)
			m.next.decided(now.noun, false)
		}
		return now.noun
	}
}

func (e entry) same(other entry) bool {
	return e.tomb == other.tomb && e.value == other.value
}

// noteAnnounced returns nil for what a view has no use of from a host.
func (m *Map) noteAnnounced(origin HostID, k Key, old, now entry) any {
	switch k.Kind {
	case KindHostFact:
		m.next.touched[origin] = struct{}{}
		return now.noun
	case KindEndpoint:
		return m.noteEndpoint(origin, k, old, now)
	case KindName:
		m.noteName(origin, k, old, now)
	}
	return nil
}

// noteEndpoint returns the *announced of an endpoint.
func (m *Map) noteEndpoint(origin HostID, k Key, old, now entry) any {
	was, had := old.noun.(*announced)
	e, has := now.noun.(Endpoint)
	if had && has && old.same(now) {
		was.seq = now.seq
		m.next.reopen(was)
		return was
	}
	if had {
		m.next.withdraw(was)
	}
	if !has {
		return nil
	}
	a := &announced{EndpointView: EndpointView{Endpoint: e, Host: origin}, seq: now.seq}
	a.call(Key{KindName, k.ID}, m.logs[origin].entries[Key{KindName, k.ID}])
	m.next.announce(a)
	return a
}

// noteName puts another endpoint of the other names in the place of the one that has them.
func (m *Map) noteName(origin HostID, k Key, old, now entry) {
	l, key := m.logs[origin], Key{KindEndpoint, k.ID}
	e := l.entries[key]
	was, has := e.noun.(*announced)
	if !has || old.same(now) {
		return
	}
	m.next.withdraw(was)
	a := &announced{EndpointView: was.EndpointView, seq: was.seq}
	a.call(k, now)
	m.next.announce(a)
	e.noun = a
	l.entries[key] = e
}

// call gives an endpoint the names in a record; none if there is no record.
func (a *announced) call(k Key, e entry) {
	a.Name, a.Names = "", nil
	if e.seq == 0 || e.tomb {
		return
	}
	noun := e.noun
	if noun == nil {
		noun, _ = decode(k, []byte(e.value), e.value) // it was decoded before
	}
	if n, ok := noun.(EndpointName); ok {
		n.Endpoint = a.ID
		a.Name, a.Names = n.Name, &n
	}
}

// redraft makes the draft anew from all logs.
func (m *Map) redraft() {
	m.next = newDraft(m.cluster)
	m.next.changed = true
	for _, l := range m.logs {
		for k, e := range l.entries {
			if e.noun = nil; !e.tomb {
				e.noun, _ = decode(k, []byte(e.value), e.value) // it was decoded before
			}
			l.entries[k] = e
		}
		for k, e := range l.entries {
			e.noun = l.note(k, entry{tomb: true}, e)
			l.entries[k] = e
		}
	}
}
