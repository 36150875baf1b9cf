package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/datapathtest"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// machine is a host in a bubble whose kernel fails and is slow where a test says so. It is the
// source of its facts, too.
type machine struct {
	*Dataplane
	kernel  datapathtest.Kernel
	changed chan struct{}
	began   time.Time

	mu      sync.Mutex
	view    *netmap.View
	failing error                        // of Apply
	slow    map[netmap.VNI]time.Duration // how long it takes to read a network's tables
	log     []string                     // calls, with the second of each
	read    map[netmap.VNI]time.Duration
	problem string
	looks   int
	lost    bool  // the kernel has no ports
	told    []int // of Restore: how many are missing
}

var (
	here, there = netmap.HostID{1}, netmap.HostID{2}
	at          = netip.MustParseAddr("192.0.2.1")
)

// start begins to follow facts with so many networks, with one endpoint elsewhere each.
func start(t *testing.T, networks int, ports ...datapath.Port) *machine {
	m := &machine{changed: make(chan struct{}, 1), began: time.Now(), slow: map[netmap.VNI]time.Duration{}, read: map[netmap.VNI]time.Duration{}}
	local := datapath.Local{Source: at, UnderlayMTU: 1500, Synced: true, Ports: ports}
	for n := range networks {
		local.Networks = append(local.Networks, netmap.Network{ID: netmap.NetworkID(1 + n), VNI: netmap.FirstVNI + netmap.VNI(n)})
	}
	m.view = &netmap.View{Networks: local.Networks, Hosts: []netmap.HostView{{ID: there, Entry: netmap.HostEntry{ID: there}, Fact: netmap.HostFact{Underlay: netip.MustParseAddrPort("192.0.2.2:7950")}}}}
	for _, n := range local.Networks {
		m.announce(n.ID, 1)
	}
	m.Dataplane = New(Config{
		Self: here, Kernel: m, View: m.View, Local: func() datapath.Local { return local }, Wake: func() {},
		Problem: func(text string) { m.note(func() { m.problem = text }) },
		Restore: func(_ context.Context, ids []netmap.EndpointID) int { m.told = append(m.told, len(ids)); return 0 },
	})
	go func() {
		for look := range follow.Facts(t.Context(), m, follow.When{Every: Every, Of: m.Concerned}) {
			m.note(func() { m.looks++ })
			m.Follow(t.Context(), look)
		}
	}()
	synctest.Wait()
	return m
}

func (m *machine) note(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
}

func (m *machine) call(what string) {
	m.note(func() { m.log = append(m.log, fmt.Sprintf("%s at %d", what, int(time.Since(m.began).Seconds()))) })
}

// announce has the other host announce an endpoint.
func (m *machine) announce(network netmap.NetworkID, n int) {
	m.note(func() {
		addr := netip.AddrFrom4([4]byte{10, 32, byte(network), byte(n)})
		e := netmap.Endpoint{ID: netmap.EndpointID(addr.String()), Network: network, V4: addr, MAC: netmap.MACOf(addr)}
		m.view = m.view.WithEndpoints(append(slices.Collect(m.view.Endpoints()), netmap.EndpointView{Endpoint: e, Host: there})...)
	})
	turn.Poke(m.changed)
}

func (m *machine) View() *netmap.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

func (m *machine) Subscribe() (facts, rest <-chan struct{}, cancel func()) {
	return m.changed, nil, func() {}
}

func (m *machine) Set(ctx context.Context, s datapath.State) (int, error) {
	m.call("set")
	ops, err := m.kernel.Set(ctx, s)
	return len(ops), err
}

func (m *machine) Apply(ctx context.Context, ops []datapath.Op) error {
	m.call("apply")
	if m.failing != nil {
		return m.failing
	}
	return m.kernel.Apply(ctx, ops)
}

func (m *machine) Devices(ctx context.Context) (datapath.State, error) {
	s, err := m.kernel.Devices(ctx)
	for i := range s.Networks {
		if m.lost {
			s.Networks[i].Ports = nil
		}
	}
	return s, err
}

func (m *machine) Entries(ctx context.Context, vni netmap.VNI, visit func(datapath.Op)) (bool, error) {
	turn.Sleep(ctx, m.slow[vni])
	m.read[vni] += m.slow[vni]
	m.call(fmt.Sprint("read ", vni-netmap.FirstVNI))
	return m.kernel.Entries(ctx, vni, visit)
}

func (m *machine) did(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(m.log, want) {
		t.Errorf("it did %q, want %q", m.log, want)
	}
	m.log = nil
}

// TestAFailedChangeIsRepairedSoon: after a failure the kernel is read and repaired, but not at
// once, and what changes until then is told it as usual. That is no drift.
func TestAFailedChangeIsRepairedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, 1)
		m.did(t, "set at 0")
		time.Sleep(time.Second)
		m.failing = errors.New("no buffer space")
		m.announce(1, 2)
		m.did(t, "apply at 1")
		if m.Health().Err == nil || m.problem == "" {
			t.Errorf("a failure shows as %v, %q", m.Health().Err, m.problem)
		}
		time.Sleep(2 * time.Second)
		m.failing = nil
		m.announce(1, 3)
		m.did(t, "apply at 3")
		if m.Health().Err == nil {
			t.Error("it counts as repaired before it is")
		}
		time.Sleep(3500 * time.Millisecond)
		m.did(t, "set at 6")
		n, _ := m.kernel.Read().Network(netmap.FirstVNI)
		if h := m.Health(); h.Err != nil || h.Repaired != 0 || m.problem != "" || len(n.Neighbours) != 3 {
			t.Errorf("after the repair: %+v, %q, %v", h, m.problem, n.Neighbours)
		}
		time.Sleep(20 * time.Second)
		m.did(t, "read 0 at 8", "read 0 at 16", "read 0 at 24")
	})
}

// TestOthersNetworksWakeNobody: endpoints on networks that the host is not on lead to no look.
func TestOthersNetworksWakeNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, 1)
		before := m.looks
		for n := range 10 {
			m.announce(77, n)
			synctest.Wait()
		}
		if m.looks != before {
			t.Errorf("ten endpoints on another network led to %d looks", m.looks-before)
		}
		m.announce(1, 9)
		synctest.Wait()
		if m.looks != before+1 {
			t.Errorf("an endpoint on the host's network led to %d looks", m.looks-before)
		}
		n, _ := m.kernel.Read().Network(netmap.FirstVNI)
		if len(n.Neighbours) != 2 {
			t.Errorf("the kernel has %v", n.Neighbours)
		}
	})
}

// TestALostPortIsToldUntilItIsBack: what cannot be made again is told with each comparison, and once more when
// its container has been started again, so that its problem ends.
func TestALostPortIsToldUntilItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port := datapath.Port{Endpoint: "here", Network: 1, V4: netip.MustParseAddr("10.32.1.99")}
		m := start(t, 1, port)
		if _, err := m.kernel.Plug(t.Context(), datapath.Plugged{Device: m.kernel.Read().Networks[0].Device, Port: port}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		m.lost = true
		time.Sleep(16 * time.Second)
		m.lost = false
		time.Sleep(24 * time.Second)
		synctest.Wait()
		if !slices.Equal(m.told, []int{1, 1, 0}) {
			t.Errorf("it was told that so many are missing: %v, want 1, 1, 0", m.told)
		}
	})
}

// TestWhatSomebodyDeletesIsBackWithin10s and counted, at whatever moment it is deleted.
func TestWhatSomebodyDeletesIsBackWithin10s(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 7900 * time.Millisecond, 8100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			m := start(t, 1)
			m.announce(1, 2)
			time.Sleep(after)
			n, _ := m.kernel.Read().Network(netmap.FirstVNI)
			_ = m.kernel.Apply(t.Context(), []datapath.Op{{Verb: datapath.Delete, Object: datapath.ANeighbour, Device: n.Device, Addr: n.Neighbours[0].Addr}})
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if now, _ := m.kernel.Read().Network(netmap.FirstVNI); m.Health().Repaired != 1 || len(now.Neighbours) != len(n.Neighbours) {
				t.Errorf("deleted after %s: repaired %d, neighbours %v", after, m.Health().Repaired, now.Neighbours)
			}
		})
	}
}

// TestTablesAreComparedWithinABudget: comparing tables takes half a percent of the time at most,
// however large they are; a small network waits for a large one and is not forgotten, and drift
// is repaired and counted.
func TestTablesAreComparedWithinABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, 2)
		large, small := netmap.FirstVNI, netmap.FirstVNI+1
		m.slow[large], m.slow[small] = time.Second, 10*time.Millisecond
		m.did(t, "set at 0")
		time.Sleep(4 * time.Minute)
		m.did(t, "read 0 at 9", "read 1 at 208", "read 0 at 209")
		time.Sleep(time.Hour - 4*time.Minute)
		m.did(t, m.log...)
		if spent := m.read[large] + m.read[small]; spent > time.Hour/checkShare+time.Second || spent < time.Hour/checkShare-time.Second {
			t.Errorf("in an hour it read for %v", spent)
		}
		n, _ := m.kernel.Read().Network(small)
		_ = m.kernel.Apply(t.Context(), []datapath.Op{{Verb: datapath.Delete, Object: datapath.ANeighbour, Device: n.Device, Addr: n.Neighbours[0].Addr}})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if h := m.Health(); h.Repaired != 1 || !slices.ContainsFunc(m.log, func(s string) bool { return strings.HasPrefix(s, "set") }) {
			t.Errorf("drift is not repaired: %+v after %q", h, m.log)
		}
	})
}
