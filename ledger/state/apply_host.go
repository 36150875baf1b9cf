package state

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
)

// authorize says whether the asking host may ask at all.
func (t *step) authorize() *netmap.Refusal {
	c := t.cmd
	switch {
	case c.Kind == KindFound:
		return nil
	case t.cluster.IsZero():
		return netmap.Refuse(netmap.Unknown, "this ledger is of no cluster yet; wait until it is founded (weft status)")
	case !c.Cluster.IsZero() && c.Cluster != t.cluster:
		return netmap.Refuse(netmap.Foreign, "host %s belongs to cluster %s, this is cluster %s; if the host is to move here, remove its state directory and start it with WEFT_JOIN set", c.Host.Short(), c.Cluster, t.cluster)
	}
	t.self = t.hosts[c.Host]
	switch {
	case t.self == nil && c.Kind == KindAdmit:
		return nil
	case t.self == nil:
		return netmap.Refuse(netmap.Unknown, "host %s is not admitted to cluster %s; its agent must join first", c.Host.Short(), t.cluster)
	case t.self.Removed:
		return netmap.Refuse(netmap.Removed, "%s was removed from the cluster; its agent makes it a new host, which asks for the addresses of its running containers again; see weft status there", t.HostName(c.Host))
	}
	if refusal := t.fence(t.self); refusal != nil {
		return refusal
	}
	return t.mustDeclare()
}

// mustDeclare lets a host that a recovered ledger has not seen do nothing else first.
func (t *step) mustDeclare() *netmap.Refusal {
	switch t.cmd.Kind {
	case KindAdmit, KindRenew, KindRemove, KindDeclareHoldings:
		return nil
	}
	if t.self.declared < t.generation {
		return netmap.Refuse(netmap.NoQuorum, "the ledger was recovered, and %s has not declared yet what it holds; its agent does so by itself, try again", t.HostName(t.self.ID))
	}
	return nil
}

// fence compares the start that the command shows with the newest one known. Of
// two machines with one identity, and of a disk and its older copy, only one can
// show it.
func (t *step) fence(h *host) *netmap.Refusal {
	shown := Incarnation{t.cmd.Start, t.cmd.Nonce}
	switch {
	case shown == h.Incarnation:
		return nil
	case shown.Start == h.Incarnation.Start:
		return netmap.Refuse(netmap.Fenced, "two machines run with the identity of %s: both show start %d, with different nonces; make the copy a new host there (weft host new-identity)", t.HostName(h.ID), shown.Start)
	case shown.Start < h.Incarnation.Start:
		return netmap.Refuse(netmap.Fenced, "%s shows start %d, but start %d was seen already: its disk is an old copy, or a clone of it runs elsewhere; make it a new host there (weft host new-identity)", t.HostName(h.ID), shown.Start, h.Incarnation.Start)
	case t.cmd.Kind != KindAdmit:
		return netmap.Refuse(netmap.Unknown, "%s must be admitted again after its start %d before it asks for anything; its agent does so by itself, try again", t.HostName(h.ID), shown.Start)
	case h.declared < t.generation:
		return nil // the recovered ledger may have forgotten the starts in between
	case len(t.cmd.Admit.Earlier) > 0 && !slices.Contains(t.cmd.Admit.Earlier, h.Incarnation):
		return netmap.Refuse(netmap.Fenced, "%s shows start %d, but its disk does not know start %d, which was seen already: it is an old copy, or a clone of it runs elsewhere; make it a new host there (weft host new-identity)", t.HostName(h.ID), shown.Start, h.Incarnation.Start)
	}
	return nil
}

func (t *step) found(f *Found) *netmap.Refusal {
	switch {
	case !t.cluster.IsZero() && t.cluster == f.Cluster:
		return nil // a repetition
	case !t.cluster.IsZero():
		return netmap.Refuse(netmap.Foreign, "cluster %s exists here already, cluster %s cannot be founded; join the one that is there (WEFT_JOIN)", t.cluster, f.Cluster)
	case f.Cluster.IsZero():
		return netmap.Refuse(netmap.BadInput, "a cluster cannot be founded without an id; give it one")
	}
	ranges := slices.Clone(f.Ranges)
	if !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		ranges = append(ranges, defaultV6Range(f.Cluster))
	}
	for i, r := range ranges {
		if refusal := checkRange(r, ranges[:i]); refusal != nil {
			return refusal
		}
	}
	t.cluster, t.generation, t.ranges = f.Cluster, 1, ranges
	t.note(Event{What: EventFounded, Host: t.cmd.Host})
	for i, r := range ranges {
		t.set(netmap.Range{Prefix: r, Order: i})
	}
	return nil
}

func checkRange(r netip.Prefix, others []netip.Prefix) *netmap.Refusal {
	if refusal := checkSubnet(r, "range"); refusal != nil {
		return refusal
	}
	if o, ok := overlapping(r, others); ok {
		return netmap.Refuse(netmap.Overlaps, "range %s overlaps range %s, which is there already (weft range ls); choose one beside it", r, o)
	}
	return nil
}

func (t *step) addRange(a *AddRange) *netmap.Refusal {
	if slices.Contains(t.ranges, a.Range) {
		return nil
	}
	if refusal := checkRange(a.Range, t.ranges); refusal != nil {
		return refusal
	}
	t.ranges = append(slices.Clip(t.ranges), a.Range)
	t.set(netmap.Range{Prefix: a.Range, Order: len(t.ranges) - 1})
	return nil
}

func (t *step) admit(a *Admit) *netmap.Refusal {
	if refusal := cmp.Or(CheckName("host name", a.Name), t.checkRelease(a)); refusal != nil {
		return refusal
	}
	h := t.self
	if h == nil {
		t.lastIndex++
		h = &host{Host: Host{HostEntry: netmap.HostEntry{ID: t.cmd.Host, Index: t.lastIndex}}, declared: t.generation}
		t.hosts[t.cmd.Host] = h
	}
	before := h.HostEntry
	h.Name, h.Addr, h.Level, h.Heard = a.Name, a.Addr, max(a.Level, 1), t.index
	if shown := (Incarnation{t.cmd.Start, t.cmd.Nonce}); shown != h.Incarnation {
		h.Incarnation, h.session = shown, session{}
	}
	if h.HostEntry != before || t.self == nil {
		t.set(h.HostEntry)
	}
	t.reply.Host = new(h.HostEntry)
	return nil
}

// CheckName refuses a name that cannot be shown to people on every host, or given to
// their Dockers.
func CheckName(what, name string) *netmap.Refusal {
	if len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return netmap.Refuse(netmap.BadInput, "%s %.40q: want at most 255 bytes of printable text", what, name)
	}
	return nil
}

func (t *step) renew() *netmap.Refusal {
	t.self.Heard = t.index
	t.reply.Host = new(t.self.HostEntry)
	return nil
}

func (t *step) remove(r *Remove) *netmap.Refusal {
	h := t.hosts[r.Target]
	switch {
	case h == nil:
		return netmap.Refuse(netmap.Unknown, "there is no host %s in this cluster; weft status lists them", r.Target)
	case h.Removed:
		t.reply.Host = new(h.HostEntry)
		return nil
	case h == t.self:
		return netmap.Refuse(netmap.BadInput, "%s cannot remove itself; ask another host to do it", t.HostName(h.ID))
	}
	if refusal := t.leaseOver(h, r); refusal != nil {
		return refusal
	}
	h.Removed, h.session = true, session{}
	t.set(h.HostEntry)
	t.strip(h.ID)
	t.giveOutLast(r.Held)
	t.reply.Host = new(h.HostEntry)
	return nil
}

// maxLate bounds the addresses of a subnet that are remembered to be given out last.
const maxLate = 4096

// giveOutLast notes what was in use until lately, in a returned block, as a returned claim or by
// a removed host's endpoints, for whoever is granted the blocks. What lies in another host's
// block was that host's to give, and is.
func (t *step) giveOutLast(held []netip.Addr) {
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		s := t.subnets[p]
		for _, a := range held {
			if _, owned := s.blockAt(a); owned || !p.Contains(a) || len(s.late) >= maxLate {
				continue
			}
			if s.late == nil {
				s.late = map[netip.Addr]struct{}{}
			}
			s.late[a] = struct{}{}
		}
	}
}

// leave removes the asking host for good. It promised to hand out nothing after it sent this.
func (t *step) leave() *netmap.Refusal {
	others := 0
	for _, h := range t.hosts {
		if h != t.self && !h.Removed {
			others++
		}
	}
	if others == 0 {
		return netmap.Refuse(netmap.BadInput, "%s is the last host of the cluster, which ends with it; run weft cleanup there instead", t.HostName(t.cmd.Host))
	}
	h := t.self
	h.Removed, h.session = true, session{}
	t.set(h.HostEntry)
	t.strip(h.ID)
	t.reply.Host = new(h.HostEntry)
	return nil
}

// leaseOver refuses to remove a host that may still hand out addresses. The leader's
// observation counts only if no renewal came after it.
func (t *step) leaseOver(h *host, r *Remove) *netmap.Refusal {
	unheard := time.Duration(r.Unheard) * time.Millisecond
	if r.Since != h.Heard {
		unheard = 0
	}
	if left := lease.Length + lease.Slack - unheard; !r.IsOff && left > 0 {
		return netmap.Refuse(netmap.Held, "%s may hand out addresses for another %v, until its lease has run out for certain; ask again then, or if the machine is off, say so (weft host rm %s --is-off)", t.HostName(h.ID), left.Round(time.Second), h.Name)
	}
	return nil
}

// strip takes everything from a host.
func (t *step) strip(id netmap.HostID) {
	for _, n := range t.sortedNetworks() {
		if _, ok := n.members[id]; ok {
			t.dropMember(n, id)
		}
	}
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		t.dropHolder(t.subnets[p], id)
	}
}
