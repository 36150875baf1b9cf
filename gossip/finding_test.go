package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay/lossy"
)

// TestPeersAreSoughtUntilTheyAreThere: where they may be changes meanwhile, and where
// nobody is does no harm and is told once.
func TestPeersAreSoughtUntilTheyAreThere(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		seed, joiner := w.host(1, ours), w.host(2, ours)
		var asked atomic.Int32
		nobody, self := netip.MustParseAddrPort("192.0.2.77:7950"), joiner.cfg.Advertise
		joiner.cfg.Lone = false
		joiner.cfg.Peers = func(context.Context) []netip.AddrPort {
			if asked.Add(1) < 8 {
				return []netip.AddrPort{nobody, self}
			}
			return []netip.AddrPort{nobody, self, netip.AddrPortFrom(addrOf(1), 7950)}
		}
		joiner.start()
		w.pass(3 * time.Minute)
		if joiner.Synced() || len(joiner.Members()) != 0 {
			t.Error("it found somebody who is not there")
		}
		seed.start()
		t.Logf("found %s after it came up", w.settled(25*time.Second, seed, joiner))
		w.pass(10 * time.Minute)
		if n := strings.Count(joiner.log.String(), "peer="+nobody.String()); n != 1 {
			t.Errorf("that nobody is at %s is told %d times in 13 minutes", nobody, n)
		}
	})
}

// TestFactsOutliveTheirOrigin: a host that joins after another one died learns
// what that one said from a third.
func TestFactsOutliveTheirOrigin(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		hosts[2].say(container(3, 1))
		w.settled(time.Second, hosts...)
		hosts[2].stack.PowerOff()
		w.until("its death", time.Minute, func() bool { return !aliveAt(hosts[0], id(3)) && !aliveAt(hosts[1], id(3)) })
		late := w.host(4, ours)
		late.start()
		w.until("its facts", 5*time.Second, func() bool { return late.Synced() })
		if !has(late.View(), container(3, 1)) {
			t.Error("synced without knowing what a third host knows")
		}
	})
}

// TestNoDatagramEverArrives: facts do not depend on datagrams, only their speed.
func TestNoDatagramEverArrives(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		for _, far := range []int{1, 2} { // streams pass, most datagrams do not
			w.net.SetLink(addrOf(3), addrOf(far), lossy.Link{Loss: 0.9, Delay: time.Millisecond})
		}
		hosts[2].say(container(3, 1))
		took := w.until("the fact", 40*time.Second, func() bool {
			return has(hosts[0].View(), container(3, 1)) && has(hosts[1].View(), container(3, 1))
		})
		t.Logf("with 90%% of everything from its origin lost, a fact is known after %s", took)
	})
}

func TestAHostWithMuchToSayIsPulled(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		var many []netmap.Change
		for n := range 250 {
			many = append(many, container(2, n))
		}
		hosts[1].restart(many...)
		w.settled(5*time.Second, hosts...)
		if got := len(endpoints(hosts[2].View())); got != 250 {
			t.Errorf("%d endpoints, want 250", got)
		}
		before := hosts[1].Stats()
		hosts[1].say(withdrawn(many[7]))
		w.settled(time.Second, hosts...)
		if s := hosts[1].Stats(); s.SentBytes-before.SentBytes > 2000 {
			t.Errorf("one withdrawal took %d bytes", s.SentBytes-before.SentBytes)
		}
	})
}

func TestAnnouncementsThatAreRefusedChangeNothing(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(1)
		before := hosts[0].View()
		bad := netmap.Endpoint{ID: "x", V4: netip.MustParseAddr("fd00::1")}
		good := container(1, 1)
		err := hosts[0].Announce(map[netmap.Key]any{netmap.EndpointKey("x"): bad, good.Key: good.Value}, nil)
		if !errors.Is(err, netmap.ErrMalformed) || hosts[0].View() != before {
			t.Errorf("got %v", err)
		}
		err = hosts[0].PublishDecisions(gossip.Decisions{Cluster: ours, Generation: 1, Index: 1, Changes: []netmap.Change{{Key: good.Key, Value: bad}}})
		if !errors.Is(err, netmap.ErrMalformed) {
			t.Errorf("got %v", err)
		}
		err = hosts[0].PublishDecisions(gossip.Decisions{Cluster: ours, Generation: 1, Index: 5})
		if err != nil {
			t.Error(err)
		}
		if err = hosts[0].PublishDecisions(gossip.Decisions{Cluster: ours, Generation: 2, Index: 9}); err == nil || !strings.Contains(err.Error(), "before it") {
			t.Errorf("a new generation that does not begin whole: %v", err)
		}
		if err = hosts[0].PublishDecisions(gossip.Decisions{Cluster: ours, Generation: 2, Index: 9, Whole: true}); err != nil || hosts[0].View().Decided != 9 {
			t.Errorf("a new generation: %v", err)
		}
	})
}

// brokenDisk fails when it is told to.
type brokenDisk struct {
	memory
	broken atomic.Bool
}

var errBroken = errors.New("no space left on device")

func (d *brokenDisk) Load() (map[string][]byte, error) {
	if d.broken.Load() {
		return nil, errBroken
	}
	return d.memory.Load()
}

func (d *brokenDisk) Commit(set map[string][]byte, del ...string) error {
	if d.broken.Load() {
		return errBroken
	}
	return d.memory.Commit(set, del...)
}

func TestADiskThatFailsIsTriedAgain(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		a, b := w.host(1, ours), w.host(2, ours)
		disk := &brokenDisk{}
		b.cfg.Disk = disk
		a.start()
		b.start()
		w.settled(10*time.Second, a, b)
		disk.broken.Store(true)
		a.say(container(1, 1))
		w.pass(time.Minute)
		if !strings.Contains(b.log.String(), errBroken.Error()) {
			t.Error("nobody says that the disk is full")
		}
		disk.broken.Store(false)
		w.pass(10 * time.Second)
		a.stop()
		b.restart()
		if !has(b.View(), container(1, 1)) {
			t.Error("what the disk refused was not tried again")
		}
		disk.broken.Store(true)
		b.stopLosing(errBroken)
		if _, err := gossip.Start(b.cfg); !errors.Is(err, errBroken) {
			t.Errorf("starting on a broken disk: %v", err)
		}
	})
}

// stopLosing stops a host whose last save fails, if there is anything to save.
func (h *host) stopLosing(may error) {
	h.t.Helper()
	h.up = false
	if err := h.Close(); err != nil && !errors.Is(err, may) {
		h.t.Error(err)
	}
	if err := h.port.Close(); err != nil {
		h.t.Error(err)
	}
}

func TestTheDiskKeepsOnlyWhatIsOfUse(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		disk := hosts[0].cfg.Disk.(*memory)
		entry := netmap.HostEntry{ID: id(3), Removed: true}
		d := gossip.Decisions{Cluster: ours, Generation: 1, Index: 4, Changes: []netmap.Change{{Key: netmap.HostEntryKey(id(3)), Value: entry}}}
		if err := hosts[0].PublishDecisions(d); err != nil {
			t.Fatal(err)
		}
		hosts[0].stop()
		logs := func() []string {
			var out []string
			for key := range disk.kept {
				out = append(out, key)
			}
			slices.Sort(out)
			return out
		}
		disk.kept["log/"+id(3).String()] = []byte("removed")
		disk.kept["log/nonsense"] = []byte("nonsense")
		disk.kept["log/"+id(1).String()] = []byte("of itself")
		hosts[0].restart()
		want := []string{"log/" + id(2).String(), "log/" + ours.String(), "peers"}
		if diff := cmp.Diff(want, logs()); diff != "" {
			t.Error(diff)
		}
		if !strings.Contains(hosts[0].log.String(), "nonsense") {
			t.Error("what cannot be read is not named")
		}
		hosts[0].stop()
		hosts[0].cfg.Cluster = netmap.ClusterID{} // it was told to become a newcomer
		disk.kept["peers"] = []byte("{")
		hosts[0].restart()
		if got := logs(); len(got) != 1 || len(hosts[0].View().Hosts) != 1 {
			t.Errorf("facts of the old cluster are kept: %v", got)
		}
	})
}

// TestFoundersThatMetBeforeFounding: SetCluster on founders that met before.
func TestFoundersThatMetBeforeFounding(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		for n := range 3 {
			w.host(n+1, netmap.ClusterID{}).start()
		}
		w.until("three newcomers to meet", 30*time.Second, func() bool {
			return !slices.ContainsFunc(w.hosts, func(h *host) bool { return len(h.Members()) != 2 })
		})
		for n, h := range w.hosts {
			w.pass(time.Duration(n) * time.Second)
			h.SetCluster(ours)
			h.cfg.Cluster = ours
			h.say(container(n+1, 1))
		}
		w.settled(10*time.Second, w.hosts...)
		before := w.hosts[1].View()
		w.hosts[1].SetCluster(ours)
		if !w.hosts[1].Synced() || w.hosts[1].View() != before {
			t.Error("saying the cluster again begins anew")
		}
	})
}

func TestFortyHostsAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("a large cluster")
	}
	bubble(t, lan, func(t *testing.T, w *town) {
		begin := time.Now()
		const n = 40
		for i := range n {
			w.host(i+1, ours).start()
		}
		w.until("everybody", 3*time.Minute, func() bool {
			return !slices.ContainsFunc(w.hosts, func(h *host) bool { return len(h.Members()) < n-1 || len(h.View().Hosts) < n })
		})
		joined := time.Since(begin)
		w.pass(2 * time.Minute) // the news of the start is old
		before := make([]gossip.Stats, n)
		for i, h := range w.hosts {
			before[i] = h.Stats()
		}
		w.pass(time.Minute)
		var idle uint64
		for i, h := range w.hosts {
			idle += h.Stats().SentBytes - before[i].SentBytes
		}
		c := container(1, 1)
		w.hosts[0].say(c)
		took := w.until("the fact", time.Second, func() bool {
			return !slices.ContainsFunc(w.hosts, func(h *host) bool { return !has(h.View(), c) })
		})
		t.Logf("%d hosts that start at once know each other after %s; a fact is everywhere after %s; idle each sends %d bytes/s of ours",
			n, joined, took, idle/60/n)
		if joined > 30*time.Second {
			t.Errorf("%s until all knew each other", joined)
		}
	})
}

func ExampleDecisions() {
	d := gossip.Decisions{Cluster: ours, Generation: 1, Index: 12, Changes: []netmap.Change{{Key: netmap.NetworkKey(12)}}}
	fmt.Println(d.Index, d.Changes[0].Key, "is gone:", d.Changes[0].Value == nil)
	// Output: 12 network 12 is gone: true
}
