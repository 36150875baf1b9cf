package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Pace of a new host that asks for what it had under its former identity.
const (
	reclaimFirst = 200 * time.Millisecond // pause after a round that left something, doubling
	reclaimLast  = 15 * time.Second
)

// Reclaim asks, for a host with another identity than before, for the networks and the
// addresses of its running containers, until each has an answer. Containers whose
// address another host got meanwhile are taken off the mesh.
func (m *Member) Reclaim(ctx context.Context) {
	if m.unregistered() {
		m.problem("return", m.missing("nothing was asked yet"))
	}
	for pause := reclaimFirst; ; pause = min(2*pause, reclaimLast) {
		left := m.reclaimRound(ctx)
		if ctx.Err() != nil {
			return
		}
		m.problem("return", left)
		if left == "" || !turn.Sleep(ctx, pause) {
			return
		}
	}
}

// reclaimRound asks once for all that is missing, and says what stays so.
func (m *Member) reclaimRound(ctx context.Context) string {
	var left []string
	note := func(err error) {
		if err != nil && len(left) < 4 {
			left = append(left, err.Error())
		}
	}
	if !m.unregistered() {
		return ""
	}
	select {
	case <-m.admitted:
	case <-ctx.Done():
		return ""
	}
	for _, r := range m.own.Attachments.Networks() {
		if r.Unregistered && !r.Deleted {
			note(m.rejoin(ctx, r))
		}
	}
	for _, subnet := range m.own.IPAM.Unregistered() {
		note(m.own.IPAM.Reregister(ctx, subnet))
	}
	for _, addr := range m.own.IPAM.Unconfirmed() {
		note(m.reclaimAddress(ctx, addr))
	}
	m.announceConfirmed()
	if len(left) == 0 {
		return ""
	}
	return m.missing(left...)
}

func (m *Member) missing(left ...string) string {
	return "this host asks for what its containers had under its former identity; still missing: " + strings.Join(left, "; ") + m.formerHint()
}

// formerHint says what to do about the identity that this host had before, if the
// cluster still counts it.
func (m *Member) formerHint() string {
	f, had := m.lease.Formerly()
	if h, known := m.cluster.Gossip.View().Host(f.Host); !had || !known || h.Entry.ID.IsZero() || h.Entry.Removed {
		return ""
	}
	return fmt.Sprintf("; this host was host %s before: if no other machine runs as that one, remove it (weft host rm %s --is-off)", f.Host.Short(), f.Host.Short())
}

// unregistered reports whether there is anything to ask for.
func (m *Member) unregistered() bool {
	unregistered := func(r attach.NetworkRecord) bool { return r.Unregistered }
	return len(m.own.IPAM.Unregistered())+len(m.own.IPAM.Unconfirmed()) > 0 || slices.ContainsFunc(m.own.Attachments.Networks(), unregistered)
}

// rejoin makes this host a member of a network again. If that cannot be, since its
// subnet or its options belong to another one by now, the network's endpoints are lost.
func (m *Member) rejoin(ctx context.Context, r attach.NetworkRecord) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := m.own.Attachments.Rejoin(ctx, r.ID)
	if err == nil || !netmap.Final(err) {
		return err
	}
	for _, e := range m.own.Attachments.Endpoints() {
		if e.LocalNetwork == r.ID && e.Evicted == "" {
			err = errors.Join(err, m.evict(ctx, e, err))
		}
	}
	return fmt.Errorf("docker network %.12s cannot be taken into use again, remove it: %w", r.ID, err)
}

// reclaimAddress asks for one address. An answer that it belongs to somebody else ends
// the search.
func (m *Member) reclaimAddress(ctx context.Context, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := m.own.IPAM.Reclaim(ctx, addr)
	switch {
	case err == nil:
		return nil
	case !netmap.Final(err):
		return fmt.Errorf("%s: %w", addr, err)
	}
	if e, ok := m.own.Attachments.Holder(addr); ok && e.Evicted == "" {
		if lost := m.evict(ctx, e, err); lost != nil {
			return lost
		}
	}
	return m.own.IPAM.Evict(addr)
}

// evict takes an endpoint off the mesh and tells the operator.
func (m *Member) evict(ctx context.Context, e attach.EndpointRecord, why error) error {
	e.Endpoint.Name = cmp.Or(m.containerName(ctx, e), e.Endpoint.Name)
	if err := m.own.Attachments.Evict(ctx, e.Endpoint.ID, e.Endpoint.Name, why.Error()); err != nil {
		return err
	}
	e.Evicted = why.Error()
	m.cfg.Log.Error(evictedText(e), "endpoint", e.Endpoint.ID)
	m.cfg.Changed()
	return nil
}

// containerName asks Docker who has an endpoint; empty if it does not say.
func (m *Member) containerName(ctx context.Context, e attach.EndpointRecord) string {
	if m.own.Docker == nil || e.Owner != netmap.OwnerDocker {
		return ""
	}
	attached, _ := m.own.Docker.Attachments(ctx, e.LocalNetwork, "") // a name is a help, not a need
	for _, at := range attached {
		if at.Endpoint == e.Endpoint.ID {
			return at.Name
		}
	}
	return ""
}

// evictedText is what the operator is told of a lost endpoint, until Docker deletes it.
func evictedText(e attach.EndpointRecord) string {
	return fmt.Sprintf("%s is off the network: it had %s from before this host took another identity, and %s; stop it and start it again, it gets another address (with --ip: remove it, and choose another)",
		e.Endpoint.Label(), e.Endpoint.AddrText(), e.Evicted)
}

// Evicted are the endpoints off the mesh, in words.
func (m *Member) Evicted() []string {
	var out []string
	for _, e := range m.own.Attachments.Endpoints() {
		if e.Evicted != "" && !e.Deleted {
			out = append(out, evictedText(e))
		}
	}
	return out
}

// announceConfirmed tells of the endpoints that run; what is told already is not told
// again.
func (m *Member) announceConfirmed() {
	for _, e := range m.own.Attachments.Endpoints() {
		if e.Joined {
			m.cfg.Announce(e.Endpoint)
		}
	}
}
