package exact_test

import (
	"time"

	"github.com/weftnet/weft/api"
)

// heal ends all faults. Operators switch off or repair the hosts that may not continue.
func (w *world) heal() {
	w.note("all is healed")
	w.healed = true
	w.mend()
	w.style.loss, w.style.double, w.style.late, w.style.foreign = 0, 0, 0, 0
	for _, m := range w.machines {
		m.disk.full, m.disk.slower, m.slower = false, 0, 0
		if m.twin {
			if !m.buried {
				m.bury()
			}
			if !w.ledger.spare(m.of) {
				continue
			}
			m.of.powerOff() // others may believe what its copy said last
			m.of.wipe()
			m.of.powerOn()
			continue
		}
		if m.off {
			m.powerOn()
		}
	}
}

// nurse does what an agent's problem asks its operator to do: a host that may not go on
// becomes a new one.
func (w *world) nurse() {
	w.after(w.seldom(3*time.Second, 20*time.Second), w.nurse)
	if w.healed {
		w.removeDead()
	}
	for _, m := range w.machines {
		if m.serves() && m.left() && !m.twin && m.busy == 0 && (w.healed || w.chance(30)) {
			m.returns()
			continue
		}
		if m.serves() && m.proven() && m.busy == 0 {
			w.meet("old disk found out by what it claims")
			m.becomesAnother()
			continue
		}
		if m.serves() && m.life.fenced && !m.twin && m.busy == 0 && w.ledger.spare(m) {
			w.meet("cleaned up and joined anew")
			m.powerOff()
			m.wipe()
			w.after(w.between(10*time.Millisecond, time.Second), m.powerOn)
		}
	}
}

// becomesAnother is `weft host new-identity`.
func (m *machine) becomesAnother() {
	l := m.life
	go func() {
		_, err := l.agent.NewIdentity(l.ctx, api.IdentityReset{})
		m.w.arrive(m.n, "2 new-identity", func() { m.w.note("%s: new-identity: %v", m, err) })
	}()
}

// mistaken returns a host about which others have facts under the same or a greater start number that
// are not on its disk any more.
func (w *world) mistaken() string {
	for _, m := range w.machines {
		if !m.serves() || m.life.fenced {
			continue
		}
		mine, _ := m.life.facts.m.Head(m.identity())
		for _, o := range w.machines {
			if !o.serves() || o == m {
				continue
			}
			if theirs, ok := o.life.facts.m.Head(m.identity()); ok && (!mine.Covers(theirs) || theirs.Life == mine.Life && theirs.Seq == mine.Seq && theirs.Sum != mine.Sum) {
				return m.String()
			}
		}
	}
	return ""
}
