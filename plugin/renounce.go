package plugin

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// Ended is closed once this agent is to be closed and opened again, and why is on disk:
// it begins as another host, as this identity is given up, under a later start, or with
// another underlay address.
func (a *Agent) Ended() <-chan struct{} { return a.ended }

// revoke ends the right to hand out addresses, and this agent's life if the identity
// is given up.
func (a *Agent) revoke(f lease.Fence) {
	if err := a.lease.Revoke(f); err != nil {
		a.problem("lease", "that this host may hand out nothing any more cannot be written down: "+err.Error())
	}
	if _, renounced := a.lease.Renounced(); renounced {
		a.end.Do(func() { close(a.ended) })
	}
}

// NewIdentity makes this host a new one by an operator's word: after a clone of it was
// made or an old disk restored. It implements api.Agent.
func (a *Agent) NewIdentity(_ context.Context, r api.Renunciation) (string, error) {
	if err := a.renounceable(r.Force); err != nil {
		return "", err
	}
	if r.DryRun {
		return "this host would become a new one: " + a.renunciation(), nil
	}
	text := "this host becomes a new one: " + a.renunciation()
	a.revoke(lease.Fence{Host: a.self, Why: "an operator asked for a new identity (weft host new-identity)", Renounced: true})
	if _, renounced := a.lease.Renounced(); !renounced {
		return "", netmap.Refuse(netmap.Busy, "this host keeps its identity, since the order cannot be written to disk (weft status)")
	}
	return text, nil
}

// renounceable says why this host should keep its identity, or nil.
func (a *Agent) renounceable(force bool) error {
	if !a.lease.Fenced() && !force {
		return netmap.Refuse(netmap.Conflict, "nothing is wrong with the identity of host %s (%s): the ledger accepts it, so it stays; --force makes a new one all the same", a.fact.Name, a.self.Short())
	}
	var voters int
	var votes bool
	l := a.ledger.Status()
	for _, k := range l.Keepers {
		if k.Voter {
			voters++
			votes = votes || k.ID == a.self
		}
	}
	if votes && voters < 3 && (l.Role == "leader" || !a.lease.Fenced()) {
		return netmap.Refuse(netmap.NoQuorum, "host %s (%s) keeps the ledger, and without it no majority is left: give the cluster three hosts first (weft status lists the keepers)", a.fact.Name, a.self.Short())
	}
	return nil
}

// renunciation says what happens to a host that gives up its identity.
func (a *Agent) renunciation() string {
	var networks, containers []string
	view := a.gossip.View()
	for _, r := range a.attach.Networks() {
		n, _ := view.Network(r.Network.ID)
		networks = append(networks, cmp.Or(n.Name, r.Network.Name, fmt.Sprintf("%.12s", r.ID)))
	}
	a.mu.Lock()
	for _, r := range a.attach.Endpoints() {
		e := r.Endpoint
		e.Name = cmp.Or(a.names[e.ID], e.Name)
		containers = append(containers, fmt.Sprintf("%s (%s)", addressText(e), endpointName(e)))
	}
	a.mu.Unlock()
	return fmt.Sprintf("it gives up the identity %s and everything that the ledger gave to it, joins its networks anew (%s), and asks for the addresses of its endpoints: %s. "+
		"Where another host has one, that container is taken off the network, and weft status names it. "+
		"If no other machine runs as host %s, remove it then, on any host: weft host rm %s --is-off",
		a.self.Short(), orNone(networks), orNone(containers), a.self.Short(), a.self.Short())
}

func orNone(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// becomeNew makes this host another one if its identity was given up. No room is open
// yet, and none was opened under the old identity since that is on disk. Each step can
// be repeated: until the last one is on disk, the next start begins from the first.
func (a *Agent) becomeNew() error {
	f, renounced := a.lease.Renounced()
	if !renounced {
		return nil
	}
	kept := ""
	for _, step := range []func() error{
		func() (err error) { kept, err = ledger.Forget(a.ledgerDir()); return err }, // what an old voter knows is nobody's any more
		a.forgetKeepers, a.renounceAddresses, a.renounceNetworks,
		func() error { _, err := a.store.NewIdentity(); return err },
		a.lease.Renounce,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("plugin: this host is to become a new one: %w", err)
		}
	}
	a.log.Warn("this host gave up its identity and is a new one", "host", a.store.Identity().Host, "former", f.Host, "why", f.Why, "ledger_kept", kept)
	return nil
}

func (a *Agent) renounceAddresses() error {
	disk := a.store.Bucket("ipam")
	records, err := disk.Load()
	if err != nil {
		return err
	}
	set, del, err := ipam.Renounce(records)
	if err != nil {
		return err
	}
	return disk.Commit(set, del...)
}

func (a *Agent) renounceNetworks() error {
	disk := a.store.Bucket("attach")
	records, err := disk.Load()
	if err != nil {
		return err
	}
	set, err := attach.Renounce(records)
	if err != nil {
		return err
	}
	return disk.Commit(set)
}

func (a *Agent) ledgerDir() string {
	return filepath.Join(a.cfg.Settings.HostPath(a.cfg.Settings.State), "ledger")
}
