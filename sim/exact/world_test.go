package exact_test

import (
	"cmp"
	"container/heap"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// world is everything outside of the agents. Only its own goroutine uses it, except for
// arrive. Nothing in it may depend on the scheduler or on the order of a map.
type world struct {
	t     *testing.T
	seed  uint64
	dir   string // for what a boot of a machine empties
	dice  *rand.Rand
	style style

	begin  time.Time
	leapt  time.Duration // time that passed without a timer noticing
	queue  events
	lastID uint64
	timer  *time.Timer
	stop   func() bool // ends run early; may be nil

	mu       sync.Mutex
	arrivals []arrival
	poked    chan struct{}

	machines []*machine
	ledger   *ledgerLog
	foreign  *foreign
	cut      map[[2]int]bool // from, to
	healed   bool            // no more faults
	lull     int             // how many times less often than usual everybody looks whether anything is new
	lasting  bool            // cuts end only then
	expect   int             // hosts that found together; 0: the first one does

	trace hash.Hash64
	steps int
	story []string // of a run that is watched
	watch bool
	loud  bool // with the agents' logs
	met   map[string]int
	fault []string
	held  map[string]holding
	alive time.Duration // virtual time of all hosts together

	lasted time.Duration // virtual time in which the cluster lived
}

// event is something that happens at a time.
type event struct {
	at time.Duration
	id uint64
	do func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].at, q[j].at), cmp.Compare(q[i].id, q[j].id)) < 0
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// arrival is something that an agent or Docker asks of the world. Those that come
// in one step are taken in the order of their keys, not of their coming.
type arrival struct {
	machine int
	key     string
	take    func()
}

// arrive is called by any goroutine.
func (w *world) arrive(machine int, key string, take func()) {
	w.mu.Lock()
	w.arrivals = append(w.arrivals, arrival{machine, key, take})
	w.mu.Unlock()
	select {
	case w.poked <- struct{}{}:
	default:
	}
}

// now is the time since the world began, as timers see it.
func (w *world) now() time.Duration { return time.Since(w.begin) }

// true time goes on while nobody's timers run.
func (w *world) clock() time.Duration { return w.now() + w.leapt }

// after has something happen later.
func (w *world) after(d time.Duration, do func()) {
	w.lastID++
	heap.Push(&w.queue, event{w.now() + d, w.lastID, do})
}

// between is a random duration; its odd nanoseconds keep events apart.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.dice.Int64N(int64(high-low)))
}

// seldom is a random duration between looks whether anything is new.
func (w *world) seldom(low, high time.Duration) time.Duration {
	return w.between(low, high) * time.Duration(w.lull)
}

// chance is true in p of a hundred.
func (w *world) chance(p int) bool { return w.dice.IntN(100) < p }

// run lets events happen until a time.
func (w *world) run(until time.Duration) {
	for {
		w.calm()
		next := until
		if len(w.queue) > 0 {
			next = min(next, w.queue[0].at)
		}
		if d := next - w.now(); d > 0 {
			w.sleep(d)
			continue
		}
		if w.now() >= until || w.stop != nil && w.stop() || w.t.Failed() || len(w.fault) > 0 {
			return
		}
		heap.Pop(&w.queue).(event).do()
		w.step()
	}
}

// sleep ends early when an agent or Docker asks for something.
func (w *world) sleep(d time.Duration) {
	w.timer.Reset(d)
	select {
	case <-w.timer.C:
	case <-w.poked:
		w.timer.Stop()
	}
}

// step is what follows every event: everybody runs until he waits, then all is
// checked.
func (w *world) step() {
	w.calm()
	w.steps++
	w.check()
}

// calm takes what was asked for until nobody has anything more to ask.
func (w *world) calm() {
	for {
		synctest.Wait()
		select {
		case <-w.poked:
		default:
		}
		w.mu.Lock()
		came := w.arrivals
		w.arrivals = nil
		w.mu.Unlock()
		if len(came) == 0 {
			return
		}
		slices.SortStableFunc(came, func(a, b arrival) int {
			return cmp.Or(cmp.Compare(a.machine, b.machine), cmp.Compare(a.key, b.key))
		})
		for _, a := range came {
			w.note("%d asks %s", a.machine, a.key)
			a.take()
		}
	}
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%v ", w.now()) + fmt.Sprintf(format, args...)
	_, _ = w.trace.Write([]byte(line)) // never fails (hash.Hash)
	if w.watch {
		w.story = append(w.story, line)
	}
}

// meet counts what was really met.
func (w *world) meet(what string) { w.met[what]++ }

// wrong says that an invariant of DESIGN §9, by its number, does not hold.
func (w *world) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("WRONG: %s", text)
	w.fault = append(w.fault, text)
}

// path reports whether what one machine sends reaches another.
func (w *world) path(from, to *machine) bool {
	return from == to || !w.cut[[2]int{from.n, to.n}]
}

// both is a path in both directions.
func (w *world) both(a, b *machine) bool { return w.path(a, b) && w.path(b, a) }

func newWorld(t *testing.T, seed uint64, dir string) *world {
	w := &world{
		t: t, seed: seed, dir: dir, dice: rand.New(rand.NewPCG(seed, 1)), begin: time.Now(), poked: make(chan struct{}, 1),
		cut: map[[2]int]bool{}, trace: fnv.New64a(), met: map[string]int{}, held: map[string]holding{},
		timer: time.NewTimer(time.Hour), lull: 1,
	}
	w.style = w.drawStyle()
	w.foreign = w.foundForeign()
	w.ledger = &ledgerLog{w: w, state: state.NewState(), truth: netmap.NewMap(netmap.ClusterID{}), heard: map[netmap.HostID]uint64{}, replies: map[string]string{}, removed: map[netmap.HostID]removal{}, vacate: map[*machine]time.Duration{}, incarnation: map[netmap.HostID]state.Incarnation{}, renewed: map[netmap.HostID]time.Duration{}}
	return w
}
