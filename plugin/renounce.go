package plugin

import (
	"fmt"
	"path/filepath"

	"github.com/weftnet/weft/driver"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
)

// Ended is closed once this identity is given up, which is on disk then: the agent is
// to be closed and opened again, and begins as another host.
func (a *Agent) Ended() <-chan struct{} { return a.ended }

// revoke ends the right to hand out addresses, and this agent's life if the identity
// is given up.
func (a *Agent) revoke(f fence) {
	if err := a.lease.revoke(f); err != nil {
		a.problem("lease", "that this host may hand out nothing any more cannot be written down: "+err.Error())
	}
	if _, renounced := a.lease.renounced(); renounced {
		a.end.Do(func() { close(a.ended) })
	}
}

// becomeNew makes this host another one if its identity was given up. No room is open
// yet, and none was opened under the old identity since that is on disk. Each step can
// be repeated: until the last one is on disk, the next start begins from the first.
func (a *Agent) becomeNew() error {
	f, renounced := a.lease.renounced()
	if !renounced {
		return nil
	}
	for _, step := range []func() error{
		func() error { return ledger.Forget(a.ledgerDir()) }, // what an old voter knows is nobody's any more
		a.renounceAddresses, a.renounceNetworks,
		func() error { _, err := a.store.NewIdentity(); return err },
		a.lease.renounce,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("plugin: this host is to become a new one: %w", err)
		}
	}
	a.log.Warn("this host gave up its identity and is a new one", "host", a.store.Identity().Host, "former", f.Host, "why", f.Why)
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
	disk := a.store.Bucket("driver")
	records, err := disk.Load()
	if err != nil {
		return err
	}
	set, err := driver.Renounce(records)
	if err != nil {
		return err
	}
	return disk.Commit(set)
}

func (a *Agent) ledgerDir() string {
	return filepath.Join(a.cfg.Settings.HostPath(a.cfg.Settings.State), "ledger")
}
