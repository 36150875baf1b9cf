package member

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// revoke ends this host's right to hand out addresses. If the identity is given up, it ends
// this agent too.
func (m *Member) revoke(f lease.Fence) {
	if err := m.lease.Revoke(f); err != nil {
		m.problem("lease", "this host may not hand out addresses any more, and cannot write that to disk: "+err.Error())
	}
	if _, reset := m.lease.IdentityReset(); reset {
		m.cfg.End()
	}
}

// NewIdentity gives this host a new identity at an operator's request, after it was cloned or
// an old disk was restored. It returns a sentence for the operator.
func (m *Member) NewIdentity(force, dryRun bool) (string, error) {
	if err := m.resettable(force); err != nil {
		return "", err
	}
	if dryRun {
		return "this host would become a new one: " + m.resetText(), nil
	}
	text := "this host becomes a new one: " + m.resetText()
	m.revoke(lease.Fence{Host: m.self, Why: "an operator asked for a new identity (weft host new-identity)", IdentityReset: true})
	if _, reset := m.lease.IdentityReset(); !reset {
		return "", netmap.Refuse(netmap.Busy, "this host keeps its identity, since the order cannot be written to disk (weft status)")
	}
	return text, nil
}

// resettable returns why this host should keep its identity, or nil.
func (m *Member) resettable(force bool) error {
	if !m.lease.Fenced() && !force {
		return netmap.Refuse(netmap.Conflict, "nothing is wrong with the identity of host %s (%s): the ledger accepts it, so it stays; --force makes a new one all the same", m.cfg.Name, m.self.Short())
	}
	var voters int
	var votes bool
	l := m.ledger.Status()
	for _, k := range l.Keepers {
		if k.Voter {
			voters++
			votes = votes || k.ID == m.self
		}
	}
	if votes && voters < 3 && (l.Role == "leader" || !m.lease.Fenced()) {
		return netmap.Refuse(netmap.NoQuorum, "host %s (%s) keeps the ledger, and without it no majority is left: give the cluster three hosts first (weft status lists the keepers)", m.cfg.Name, m.self.Short())
	}
	return nil
}

// resetText says what happens to a host that gives up its identity.
func (m *Member) resetText() string {
	var networks, containers []string
	view := m.cluster.Gossip.View()
	for _, r := range m.own.Attachments.Networks() {
		n, _ := view.Network(r.Network.ID)
		networks = append(networks, cmp.Or(n.Name, r.Network.Name, fmt.Sprintf("%.12s", r.ID)))
	}
	for _, r := range m.own.Attachments.Endpoints() {
		e := r.Endpoint
		e.Name = cmp.Or(m.cfg.NameOf(e.ID), e.Name)
		containers = append(containers, fmt.Sprintf("%s (%s)", e.AddrText(), e.Label()))
	}
	return fmt.Sprintf("it gives up the identity %s and everything that the ledger gave to it, joins its networks anew (%s), and asks for the addresses of its endpoints: %s. "+
		"Where another host has one, that container is taken off the network, and weft status names it. "+
		"If no other machine runs as host %s, remove it then, on any host: weft host rm %s --is-off",
		m.self.Short(), cmp.Or(strings.Join(networks, ", "), "none"), cmp.Or(strings.Join(containers, ", "), "none"), m.self.Short(), m.self.Short())
}

// finishReset gives this host a new identity if the old one was given up. It runs before any
// other part of the agent is open. Each step can be repeated: until the last one is on disk,
// the next start begins with the first.
func (m *Member) finishReset() error {
	f, reset := m.lease.IdentityReset()
	if !reset {
		return nil
	}
	kept := ""
	for _, step := range []func() error{
		func() (err error) { kept, err = ledger.Forget(m.cfg.LedgerDir); return err }, // the new identity has no vote
		m.forgetKeepers, m.resetAddresses, m.resetNetworks,
		func() error { _, err := m.cfg.Store.NewIdentity(); return err },
		m.lease.ResetIdentity,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("member: this host cannot become a new one: %w", err)
		}
	}
	m.cfg.Log.Warn("this host gave up its identity and is a new one", "host", m.cfg.Store.Identity().Host, "former", f.Host, "why", f.Why, "ledger_kept", kept)
	return nil
}

func (m *Member) resetAddresses() error {
	disk := m.cfg.Bucket("ipam")
	records, err := disk.Load()
	if err != nil {
		return err
	}
	set, del, err := ipam.ResetIdentity(records)
	if err != nil {
		return err
	}
	return disk.Commit(set, del...)
}

func (m *Member) resetNetworks() error {
	disk := m.cfg.Bucket("attach")
	records, err := disk.Load()
	if err != nil {
		return err
	}
	set, err := attach.ResetIdentity(records)
	if err != nil {
		return err
	}
	return disk.Commit(set)
}
