package exact_test

import (
	"context"
	"time"
)

// style says which faults a seed has and how often. Seeds with different styles find more than seeds
// that are all alike.
type style struct {
	loss, double, late int // of a hundred
	foreign            int // requests that reach the ledger of another cluster
	pace               time.Duration
	pause              time.Duration // between faults
	weights            []int         // of faults
}

func (w *world) drawStyle() style {
	s := style{
		loss: w.dice.IntN(12), double: w.dice.IntN(10), late: w.dice.IntN(4), foreign: w.dice.IntN(4),
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
	{"old disk", 5, (*world).oldDisk},
	{"clone", 2, (*world).clone},
	{"new host", 2, (*world).join},
	{"host off for days", 3, (*world).offForDays},
	{"host leave", 3, (*world).leave},
}

// suffer causes a fault, and schedules the next one until everything heals.
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

// soon ends a fault after a while.
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
	if m.aged != nil { // the next boot is with what it has by now
		now := m.disk.copy()
		m.aged = &now
	}
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

// leap lets time pass without timers: machines were suspended, or so busy that no goroutine ran. The
// boot clocks continue; the monotonic clocks of some machines do not.
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
