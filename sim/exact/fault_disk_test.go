package exact_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
)

// oldDisk keeps a copy of the disk, or replaces the disk by an older copy.
func (w *world) oldDisk(m *machine) bool {
	if m.old == nil {
		for _, o := range w.machines {
			if old := o.disk.copy(); o.old == nil && !o.identity().IsZero() {
				o.old = &old
			}
		}
		return false
	}
	if m.old.identity.Host != m.identity() || m.off || m.busy > 0 || m.n == 1 || m.twin || !w.ledger.spare(m) {
		return false
	}
	if w.ledger.incarnation[m.identity()].Start == m.old.identity.Start {
		w.meet("old disk of the newest start")
	}
	m.setBack(*m.old)
	m.empty() // Docker's is another old one
	w.soon(m.powerOn)
	return true
}

// setBack switches the machine off and gives it an old disk.
func (m *machine) setBack(old image) {
	m.powerOff()
	m.disk.image, m.aged = old.copy(), &old
	m.keeps, m.fresh, m.shady = false, true, true
}

// inUse reports whether, according to an image of a disk, a container had an address, or had it until
// about the last release.
func (i *image) inUse(addr netip.Addr) bool {
	var newest, at int64
	held := false
	for key, raw := range i.data {
		var u pool.Use
		if name, ok := strings.CutPrefix(key, "ipam addr/"); ok && json.Unmarshal(raw, &u) == nil {
			newest = max(newest, u.At)
			if name == addr.String() {
				held, at = u.Held, u.At
			}
		}
	}
	return held || at > 0 && at >= newest-60
}

// leased reports whether an agent has got a lease since the boot.
func (m *machine) leased() bool {
	var sent lease.Moment
	now, _ := m.clocks()
	return json.Unmarshal(m.disk.data["lease sent"], &sent) == nil && sent.Boot == now.Boot
}

// proven reports whether an agent has proven that its disk is an old one.
func (m *machine) proven() bool {
	var f struct {
		Host     netmap.HostID
		Outdated bool
	}
	return json.Unmarshal(m.disk.data["lease fence"], &f) == nil && f.Outdated && f.Host == m.identity()
}

// clone starts a second machine with a copy of a disk.
func (w *world) clone(m *machine) bool {
	for _, o := range w.machines {
		if o.twin {
			return false
		}
	}
	if !m.serves() || m.n == 1 || len(w.machines) >= maxMachines {
		return false
	}
	c := w.newMachine()
	c.disk.image = m.disk.copy()
	c.twin, c.of, c.shady, m.shady = true, m, true, true
	c.copied, m.copied = true, true
	c.start()
	w.after(w.between(10*time.Millisecond, w.style.pace), c.live)
	w.after(w.between(20*time.Second, 100*time.Second), func() { c.bury() })
	return true
}
