package resolver

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

// facts are those of a cluster of two hosts, each with a container that has the alias web.
type facts struct {
	mu      sync.Mutex
	view    *netmap.View
	synced  bool
	members []gossip.Member
	rest    chan struct{}
}

var (
	here, there = netmap.HostID{1}, netmap.HostID{2}
	network     = netmap.Network{ID: 7, Name: "overlay", Subnets: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/20")}}
)

func endpoint(host netmap.HostID, id, addr string) netmap.EndpointView {
	e := netmap.EndpointView{Endpoint: netmap.Endpoint{ID: netmap.EndpointID(id), Network: network.ID, V4: netip.MustParseAddr(addr)}, Host: host}
	e.Names = &netmap.EndpointName{Endpoint: e.ID, Name: id, Aliases: []string{"web"}}
	return e
}

func newFacts() *facts {
	view := &netmap.View{Networks: []netmap.Network{network}}
	return &facts{view: view.WithEndpoints(endpoint(here, "a", "10.32.0.2"), endpoint(there, "b", "10.32.0.3")), rest: make(chan struct{}, 1)}
}

func (f *facts) View() *netmap.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

func (f *facts) Subscribe() (<-chan struct{}, <-chan struct{}, func()) {
	return make(chan struct{}), f.rest, func() {}
}

func (f *facts) Synced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced
}

func (f *facts) Members() []gossip.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members
}

func (f *facts) set(synced, alive bool) {
	f.mu.Lock()
	f.synced, f.members = synced, []gossip.Member{{ID: here, Alive: true}, {ID: there, Alive: alive}}
	f.mu.Unlock()
	f.rest <- struct{}{}
	synctest.Wait()
}

// TestContainersOfAHostThatIsDown are not found until it is back. A host that does not know all facts yet, as after a
// start, takes nobody for down.
func TestContainersOfAHostThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFacts()
		r := New(Config{Names: dns.Config{Self: here}, Facts: f, Endpoints: func() []attach.EndpointRecord { return nil }, Problem: func(string, string) {}, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Follow(ctx) })
		running.Go(func() { r.ServeContainers(ctx) })
		synctest.Wait()
		answer := r.names.For(func() []netmap.NetworkID { return []netmap.NetworkID{network.ID} })
		for _, step := range []struct {
			what          string
			synced, alive bool
			want          int
		}{
			{"before all facts are known", false, false, 2}, {"with all hosts up", true, true, 2}, {"with one down", true, false, 1}, {"with it back", true, true, 2},
		} {
			f.set(step.synced, step.alive)
			if got := answer(new(wire.Msg).SetQuestion("web.", wire.TypeA)); len(got.Answer) != step.want {
				t.Errorf("%s: %v, want %d addresses", step.what, got.Answer, step.want)
			}
		}
		cancel()
		running.Wait()
	})
}
