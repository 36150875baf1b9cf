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

// Pace of Reclaim.
const (
	reclaimFirst = 200 * time.Millisecond // pause after a round with something missing; doubles
	reclaimLast  = 15 * time.Second
)

// Reclaim asks the ledger, after a reset of the identity, for the networks and addresses that
// this host's running containers had under the former one, until each has an answer. It evicts
// containers whose address another host got meanwhile.
func (m *Member) Reclaim(ctx context.Context) {
	if m.unregistered() {
		m.problem("return", m.missing("nothing was asked for yet"))
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

// reclaimRound asks once for everything that is missing, and describes what is still missing.
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

// formerHint says what to do about this host's former identity if the cluster still has it as a
// member.
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

// rejoin makes this host a member of a network again. If another network has its subnet or
// options by now, its endpoints are evicted.
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

// reclaimAddress asks for one address. If it belongs to another host, its endpoint is evicted.
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

// evict takes an endpoint off the network and shows the operator why.
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

// containerName asks Docker for the name of an endpoint's container; empty if it does not know.
func (m *Member) containerName(ctx context.Context, e attach.EndpointRecord) string {
	if m.own.Docker == nil || e.Owner != netmap.OwnerDocker {
		return ""
	}
	attached, _ := m.own.Docker.Attachments(ctx, e.LocalNetwork, "") // without a name the id is shown
	for _, at := range attached {
		if at.Endpoint == e.Endpoint.ID {
			return at.Name
		}
	}
	return ""
}

// evictedText describes an evicted endpoint, until Docker deletes it.
func evictedText(e attach.EndpointRecord) string {
	return fmt.Sprintf("%s is off the network: it had %s from before this host took another identity, and %s; stop it and start it again, it gets another address (with --ip: remove it, and choose another)",
		e.Endpoint.Label(), e.Endpoint.AddrText(), e.Evicted)
}

// Evicted describes the evicted endpoints.
func (m *Member) Evicted() []string {
	var out []string
	for _, e := range m.own.Attachments.Endpoints() {
		if e.Evicted != "" && !e.Deleted {
			out = append(out, evictedText(e))
		}
	}
	return out
}

// announceConfirmed announces the endpoints that run. What is announced already is not sent
// again.
func (m *Member) announceConfirmed() {
	for _, e := range m.own.Attachments.Endpoints() {
		if e.Joined {
			m.cfg.Announce(e.Endpoint)
		}
	}
}
