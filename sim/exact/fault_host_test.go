package exact_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin/plugintest"
)

// remove lets one to three operators remove a host that may still run. They wait for the end of its
// lease.
func (w *world) remove(m *machine) bool {
	if w.members() < 4 {
		return false
	}
	if w.chance(50) {
		w.pass(w.between(20*time.Hour, 26*time.Hour))
	}
	return w.order(m, false)
}

// removeOff turns a machine off, and operators remove it with --is-off.
func (w *world) removeOff(m *machine) bool {
	if m.off || m.busy > 0 || m.twin || w.members() < 4 {
		return false
	}
	m.powerOff()
	w.after(w.between(20*time.Second, 60*time.Second), m.powerOn)
	return w.order(m, true)
}

// members counts hosts that were not removed.
func (w *world) members() (n int) {
	for _, m := range w.machines {
		if !m.buried && !m.twin && w.ledger.removed[m.identity()].index == 0 {
			n++
		}
	}
	return n
}

// order lets operators run `weft host rm` on some hosts at once.
func (w *world) order(m *machine, off bool) bool {
	id := m.identity()
	if id.IsZero() {
		return false
	}
	n := 0
	for _, at := range w.machines {
		if at == m || !at.serves() || n == 3 || w.chance(30) {
			continue
		}
		n++
		l := at.life
		w.after(w.between(time.Millisecond, 300*time.Millisecond), func() {
			if at.life != l || !at.serves() || off && (!m.off || m.identity() != id) {
				return // an operator looks whether it is true
			}
			go func() {
				_, err := l.agent.RemoveHost(l.ctx, api.Removal{Host: id.String(), IsOff: off})
				w.arrive(at.n, "2 host rm "+id.String(), func() {
					w.note("%s: host rm %s: %v", at, m, err)
					if err == nil {
						w.meet("operator told that a host is removed")
					}
				})
			}()
		})
	}
	if n > 1 {
		w.meet("several operators at once")
	}
	return n > 0
}

// empty removes all containers and networks of a machine.
func (m *machine) empty() {
	for _, addr := range m.w.heldBy(m) {
		delete(m.w.held, addr)
	}
	m.lives++
	m.docker = plugintest.NewEngine(fmt.Sprintf("%s.%d", m, m.lives))
	m.docker.Before, m.docker.After = m.before, m.after
}

// wipe does what `weft cleanup` or a new disk does.
func (m *machine) wipe() {
	m.empty()
	m.disk.image = image{data: map[string][]byte{}}
	m.keeps, m.fresh, m.shady, m.copied, m.aged, m.old, m.joins = false, true, false, false, nil, nil, true
}

// spare reports whether the other keepers are a majority that has the log. Without a majority only
// `weft ledger recover` helps, which other tests cover.
func (l *ledgerLog) spare(m *machine) bool {
	n := 0
	for _, k := range l.keepers {
		if k != m && k.keeps {
			n++
		}
	}
	return !slices.Contains(l.keepers, m) && len(l.keepers) > 0 || 2*n > len(l.keepers)
}

func (w *world) loseDisk(m *machine) bool {
	if m.off || m.busy > 0 || m.n == 1 || m.twin || !w.ledger.spare(m) {
		return false
	}
	m.powerOff()
	m.wipe()
	w.soon(m.powerOn)
	return true
}

// bury turns a machine off for ever.
func (m *machine) bury() {
	m.powerOff()
	m.empty()
	m.buried = true
}

const maxMachines = 12

func (w *world) join(*machine) bool {
	if len(w.machines) >= maxMachines {
		return false
	}
	m := w.newMachine()
	m.start()
	w.after(w.between(10*time.Millisecond, w.style.pace), m.live)
	return true
}

// offForDays turns a machine off until the leader removes it because its lease ended long ago.
func (w *world) offForDays(m *machine) bool {
	if m.off || m.busy > 0 || m.n == 1 || m.twin || w.members() < 4 {
		return false
	}
	m.powerOff()
	w.pass(w.between(90*time.Hour, 110*time.Hour))
	w.after(w.between(50*time.Second, 90*time.Second), m.powerOn)
	return true
}
