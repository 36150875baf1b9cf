package paths

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/netmap"
)

// ways is an underlay with ways that drop what is larger than they carry.
type ways struct {
	mu       sync.Mutex
	carry    map[netip.Addr]int // 0: nothing arrives
	hosts    []netmap.HostView
	off      map[netmap.HostID]bool
	lose     func() bool // whether a full request is lost by chance; nil: none is
	asked    map[netip.Addr]int
	announce int
	problem  string
}

func newWays(hosts int) *ways {
	w := &ways{carry: map[netip.Addr]int{}, off: map[netmap.HostID]bool{}, asked: map[netip.Addr]int{}}
	for i := 1; i <= hosts; i++ {
		at := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		w.carry[at] = 9000
		w.hosts = append(w.hosts, netmap.HostView{ID: netmap.HostID{byte(i)}, Entry: netmap.HostEntry{ID: netmap.HostID{byte(i)}}, Fact: netmap.HostFact{Name: fmt.Sprint("host-", i), Underlay: netip.AddrPortFrom(at, 7950)}})
	}
	return w
}

func (w *ways) set(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// sleep lets others change the ways meanwhile.
func (w *ways) sleep(d time.Duration) {
	w.mu.Unlock()
	time.Sleep(d)
	w.mu.Lock()
}

func (w *ways) ask(ctx context.Context, to netip.AddrPort, size, _ int) bool {
	var arrives bool
	w.set(func() {
		w.asked[to.Addr()]++
		arrives = size <= w.carry[to.Addr()] && (size <= least || w.lose == nil || !w.lose())
	})
	if !arrives {
		<-ctx.Done()
	}
	return arrives
}

// run checks these ways while look looks at them.
func (w *ways) run(t *testing.T, look func()) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{
			Self: w.hosts[0].ID,
			View: func() (v *netmap.View) { w.set(func() { v = &netmap.View{Hosts: w.hosts} }); return v },
			Alive: func() map[netmap.HostID]bool {
				alive := map[netmap.HostID]bool{}
				w.set(func() {
					for _, h := range w.hosts {
						alive[h.ID] = !w.off[h.ID]
					}
				})
				return alive
			},
			MTU: func() int { return 1500 }, Arrives: w.ask,
			Carries: func(size int) { w.set(func() { w.announce = size }) },
			Problem: func(_, sentence string) { w.set(func() { w.problem = sentence }) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		look()
		cancel()
		running.Wait()
	})
}

// TestTheNarrowestWayCounts until it carries all again, or its host is no more.
func TestTheNarrowestWayCounts(t *testing.T) {
	w := newWays(6)
	w.run(t, func() {
		time.Sleep(2 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.announce != 0 || w.problem != "" || len(w.asked) != 5 {
			t.Fatalf("all is well, but announced %d, problem %q, asked %v", w.announce, w.problem, w.asked)
		}
		narrowest, second := w.hosts[2].Fact.Underlay.Addr(), w.hosts[4].Fact.Underlay.Addr()
		w.carry[narrowest], w.carry[second] = 1337, 1450
		w.sleep(5 * time.Minute)
		if w.announce != 1337 {
			t.Errorf("announced %d, want what a way of 1337 carries", w.announce)
		}
		for _, want := range []string{"host-3 (192.0.2.3) only up to 1337", "host-5", "WEFT_MTU=1287"} {
			if !strings.Contains(w.problem, want) {
				t.Errorf("problem %q, want %q in it", w.problem, want)
			}
		}
		w.hosts = append(w.hosts[:2:2], w.hosts[3:]...)
		w.sleep(time.Minute)
		if w.announce != 1450 {
			t.Errorf("the narrowest is no more: announced %d, want what the next one carries", w.announce)
		}
		w.carry[second] = 1500
		w.sleep(time.Minute)
		if w.announce != 0 || w.problem != "" {
			t.Errorf("the way carries all again, but announced %d, problem %q", w.announce, w.problem)
		}
	})
}

// TestWhatIsLostOtherwiseSaysNothing about sizes: a host that is off, one that does not answer, and packets that
// are lost by chance.
func TestWhatIsLostOtherwiseSaysNothing(t *testing.T) {
	w := newWays(4)
	off, silent := w.hosts[1], w.hosts[2].Fact.Underlay.Addr()
	w.off[off.ID], w.carry[silent] = true, 0
	n := 0
	w.lose = func() bool { n++; return n%3 == 0 }
	w.run(t, func() {
		time.Sleep(10 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.announce != 0 || w.problem != "" || w.asked[off.Fact.Underlay.Addr()] != 0 || n < 10 {
			t.Errorf("announced %d, problem %q, asked %v, %d large packets", w.announce, w.problem, w.asked, n)
		}
	})
}
