package exact_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/status"
)

// style is what a seed is like: which faults there are and how often. Seeds that
// differ in that find more than seeds that are all alike.
type style struct {
	loss, double, late int // of a hundred
	pace               time.Duration
	pause              time.Duration // between faults
	weights            []int         // of faults
}

func (w *world) drawStyle() style {
	s := style{
		loss: w.dice.IntN(12), double: w.dice.IntN(10), late: w.dice.IntN(4),
		pace:  w.between(100*time.Millisecond, 1500*time.Millisecond),
		pause: w.between(300*time.Millisecond, 6*time.Second),
	}
	for _, f := range faults {
		weight := 0
		if w.chance(60) {
			weight = f.weight
		}
		s.weights = append(s.weights, weight)
	}
	return s
}

// fault is something that goes wrong.
type fault struct {
	name   string
	weight int
	do     func(*world, *machine) bool // false: it cannot happen now
}

var faults = []fault{
	{"agent crash", 10, (*world).crashAgent},
	{"agent crash while it writes", 8, (*world).crashWriting},
	{"agent restart", 5, (*world).restartAgent},
	{"power cut", 6, (*world).cutPower},
	{"host cut off", 6, (*world).isolate},
	{"host is not heard", 4, func(w *world, m *machine) bool { return w.oneWay(m, true) }},
	{"host hears nothing", 4, func(w *world, m *machine) bool { return w.oneWay(m, false) }},
	{"network split in two", 4, (*world).split},
	{"one link cut one way", 5, (*world).cutLink},
	{"loss", 3, (*world).lose},
	{"disk full", 3, (*world).fillDisk},
	{"slow disk", 3, (*world).slowDisk},
	{"slow host", 3, (*world).slowHost},
	{"wall clock step", 4, (*world).stepClock},
	{"hours pass", 5, (*world).leap},
	{"host rm", 4, (*world).remove},
	{"host off, rm --is-off", 3, (*world).removeOff},
	{"disk lost", 2, (*world).loseDisk},
	{"old disk", 3, (*world).oldDisk},
	{"clone", 1, (*world).clone},
	{"new host", 2, (*world).join},
	{"host off for days", 1, (*world).offForDays},
}

// suffer comes again and again until all is healed.
func (w *world) suffer() {
	if w.healed {
		return
	}
	w.after(w.between(w.style.pause/2, w.style.pause*2), w.suffer)
	total := 0
	for _, weight := range w.style.weights {
		total += weight
	}
	if total == 0 {
		return
	}
	draw := w.dice.IntN(total)
	for i, f := range faults {
		if draw -= w.style.weights[i]; draw < 0 {
			m := w.machines[w.dice.IntN(len(w.machines))]
			w.note("fault: %s, %s", f.name, m)
			if f.do(w, m) {
				w.meet("fault: " + f.name)
			}
			return
		}
	}
}

// soon has a fault end.
func (w *world) soon(do func()) {
	d := w.between(time.Second, 8*time.Second)
	if w.chance(30) {
		d = w.between(10*time.Second, 70*time.Second)
	}
	w.after(d, do)
}

func (w *world) crashAgent(m *machine) bool {
	if m.life == nil || m.off {
		return false
	}
	m.crash()
	w.after(w.between(time.Millisecond, 2*time.Second), m.restart)
	return true
}

// crashWriting waits for the next write and crashes before or after it is synced.
func (w *world) crashWriting(m *machine) bool {
	l := m.life
	if !m.serves() {
		return false
	}
	m.trap = func() {
		w.after(w.between(time.Microsecond, 5*time.Millisecond), func() {
			if m.life == l {
				w.crashAgent(m)
			}
		})
	}
	return true
}

func (w *world) restartAgent(m *machine) bool {
	l := m.life
	if !m.serves() {
		return false
	}
	l.opened, l.ended = false, true
	l.hangUp()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	go func() {
		defer cancel()
		_ = l.server.Close(ctx) // calls that are not done by then end with the agent
		_ = l.agent.Close()
		w.arrive(m.n, "closed", func() {
			if m.life == l {
				m.life = nil
				close(l.off)
				l.kill()
				w.after(w.between(time.Millisecond, time.Second), m.restart)
			}
		})
	}()
	return true
}

// cutPower kills the machine with its containers; Docker starts them again.
func (w *world) cutPower(m *machine) bool {
	if m.off || m.busy > 0 || m.alone {
		return false
	}
	m.powerOff()
	w.soon(m.powerOn)
	return true
}

func (m *machine) powerOff() {
	m.crash()
	m.off = true
}

func (m *machine) powerOn() {
	if !m.off || m.buried {
		return
	}
	m.off = false
	m.reboot()
	m.start()
	l := m.life
	m.w.after(m.w.between(100*time.Millisecond, time.Second), func() {
		if m.life == l && m.busy == 0 {
			m.act(action{name: "containers start again", alone: true, do: func(m *machine) func(context.Context) error { return m.restartDocker(false) }})
		}
	})
}

func (w *world) cutBoth(a, b *machine) {
	if a != b {
		w.cut[[2]int{a.n, b.n}], w.cut[[2]int{b.n, a.n}] = true, true
	}
}

func (w *world) isolate(m *machine) bool {
	for _, o := range w.machines {
		w.cutBoth(m, o)
	}
	w.soon(w.mend)
	return true
}

func (w *world) oneWay(m *machine, out bool) bool {
	for _, o := range w.machines {
		if o != m && out {
			w.cut[[2]int{m.n, o.n}] = true
		} else if o != m {
			w.cut[[2]int{o.n, m.n}] = true
		}
	}
	w.soon(w.mend)
	return true
}

func (w *world) split(*machine) bool {
	side := map[*machine]bool{}
	for _, m := range w.machines {
		side[m] = w.chance(50)
	}
	for _, a := range w.machines {
		for _, b := range w.machines {
			if side[a] != side[b] {
				w.cutBoth(a, b)
			}
		}
	}
	w.soon(w.mend)
	return true
}

func (w *world) cutLink(m *machine) bool {
	o := w.machines[w.dice.IntN(len(w.machines))]
	if o != m {
		w.cut[[2]int{m.n, o.n}] = true
	}
	w.soon(w.mend)
	return o != m
}

func (w *world) mend() { clear(w.cut) }

func (w *world) lose(*machine) bool {
	before := w.style.loss
	w.style.loss = 35
	w.soon(func() { w.style.loss = min(before, w.style.loss) })
	return true
}

func (w *world) fillDisk(m *machine) bool {
	m.disk.full = true
	w.soon(func() { m.disk.full = false })
	return true
}

func (w *world) slowDisk(m *machine) bool {
	m.disk.slower = w.between(10*time.Millisecond, 1500*time.Millisecond)
	w.soon(func() { m.disk.slower = 0 })
	return true
}

func (w *world) slowHost(m *machine) bool {
	m.slower = w.between(5*time.Millisecond, 700*time.Millisecond)
	w.soon(func() { m.slower = 0 })
	return true
}

func (w *world) stepClock(m *machine) bool {
	m.wall += w.between(-400*time.Hour, 400*time.Hour)
	return true
}

// leap is time that passes without a timer noticing: machines were suspended, or
// so busy that nobody got to run. The clocks that run while suspended went on; some
// machines' others did not.
func (w *world) leap(*machine) bool {
	d := w.between(time.Minute, 3*time.Hour)
	if w.chance(40) {
		d = w.between(3*time.Hour, 32*time.Hour)
	}
	w.pass(d)
	return true
}

func (w *world) pass(d time.Duration) {
	w.leapt += d
	for _, m := range w.machines {
		if w.chance(20) {
			m.slept += d
		}
	}
}

// remove has one to three operators remove a host that may run, and wait for its
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

// removeOff turns a machine off, and the operators say so.
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

// order has operators say `weft host rm` on some hosts at once.
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
				_, err := l.agent.RemoveHost(l.ctx, status.Removal{Host: id.String(), IsOff: off})
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

// empty makes the machine one without containers and networks.
func (m *machine) empty() {
	for _, addr := range m.w.heldBy(m) {
		delete(m.w.held, addr)
	}
	m.lives++
	m.docker = plugintest.NewEngine(fmt.Sprintf("%s.%d", m, m.lives))
	m.docker.Before, m.docker.After = m.before, m.after
}

// wipe is `weft cleanup`, or a new disk.
func (m *machine) wipe() {
	m.empty()
	m.disk.image = image{data: map[string][]byte{}}
	m.keeps, m.fresh, m.shady, m.old, m.joins = false, true, false, nil, true
}

// spare says whether a majority of the keepers has its log without this machine.
// Without one only `weft ledger recover` helps, which is tested elsewhere.
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

// oldDisk takes a picture of a disk, or puts an older one in place of the disk.
func (w *world) oldDisk(m *machine) bool {
	if m.old == nil {
		old := m.disk.copy()
		m.old = &old
		return !m.identity().IsZero()
	}
	if m.off || m.busy > 0 || m.n == 1 || m.twin || !w.ledger.spare(m) {
		return false
	}
	m.powerOff()
	m.empty()
	m.disk.image = m.old.copy()
	m.keeps, m.fresh, m.shady = false, true, true
	w.soon(m.powerOn)
	return true
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
	c.start()
	w.after(w.between(10*time.Millisecond, w.style.pace), c.live)
	w.after(w.between(20*time.Second, 100*time.Second), func() { c.bury() })
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

// offForDays turns a machine off until it is removed by time.
func (w *world) offForDays(m *machine) bool {
	if m.off || m.busy > 0 || m.n == 1 || m.twin || w.members() < 4 {
		return false
	}
	m.powerOff()
	w.pass(w.between(90*time.Hour, 110*time.Hour))
	w.after(w.between(20*time.Second, 50*time.Second), m.powerOn)
	return true
}

// heal ends all faults; operators clean up what may not go on.
func (w *world) heal() {
	w.note("all is healed")
	w.healed = true
	w.mend()
	w.style.loss, w.style.double, w.style.late = 0, 0, 0
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

// nurse is what operators do when they are told to: hosts that may not go on become
// new ones, and one that others take for its own copy starts again.
func (w *world) nurse() {
	w.after(w.between(3*time.Second, 20*time.Second), w.nurse)
	for _, m := range w.machines {
		if m.serves() && m.shady && w.healed && m.outdated() {
			w.meet("started again because of what an old disk had said")
			w.crashAgent(m)
		}
		if m.serves() && m.life.fenced && !m.twin && m.busy == 0 && w.ledger.spare(m) {
			w.meet("cleaned up and joined anew")
			m.powerOff()
			m.wipe()
			w.after(w.between(10*time.Millisecond, time.Second), m.powerOn)
		}
	}
}

// outdated says whether others believe what this host said under the same or a
// greater start number, which is not on its disk any more.
func (m *machine) outdated() bool {
	mine, _ := m.life.facts.m.Head(m.identity())
	for _, o := range m.w.machines {
		if !o.serves() || o == m {
			continue
		}
		if theirs, ok := o.life.facts.m.Head(m.identity()); ok && (!mine.Covers(theirs) || theirs.Life == mine.Life && theirs.Seq == mine.Seq && theirs.Sum != mine.Sum) {
			return true
		}
	}
	return false
}
