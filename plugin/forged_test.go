package plugin_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/underlay"
)

// TestAForgedDatagramEndsNoHost: a forged datagram says that the ledger removed all hosts, or that it was
// recovered with the greatest possible generation. No host gives anything up, and a removal by an
// operator still works afterwards.
func TestAForgedDatagramEndsNoHost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		network := hosts[2].network("web", "10.40.0.0/24")
		at := netip.AddrFrom4([4]byte{192, 0, 2, 66})
		stranger, err := underlay.Open(underlay.Config{Listen: netip.AddrPortFrom(at, 7950), Network: c.net.Host(at)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stranger.Close() }()
		for _, h := range hosts {
			for _, b := range h.forgeries() {
				cluster := b.Origin
				datagram := netmap.AppendBatch(append([]byte{0xf7, 2, 'b'}, cluster[:]...), b)
				if _, err := stranger.Packets().WriteTo(datagram, netip.AddrPortFrom(h.addr, 7950)); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Minute)
		for _, h := range hosts {
			if v := h.View(); h.ends() || len(v.Hosts) != 3 || v.Generation != 1 || len(h.Report().Problems) > 0 {
				t.Errorf("%s ends: %v; it knows %d hosts in generation %d: %q", h.set.Name, h.ends(), len(v.Hosts), v.Generation, h.Report().Problems)
			}
		}
		hosts[2].run("on", network, "")
		hosts[2].removedInPassing(hosts[0])
		hosts[2].reborn()
	})
}

// forgeries are batches in the ledger's name that would end a host.
func (h *host) forgeries() []netmap.Batch {
	h.c.t.Helper()
	v := h.View()
	var changes []netmap.Change
	for _, o := range h.c.hosts {
		e := netmap.HostEntry{ID: o.Report().Self, Name: o.set.Name, Index: 1, Removed: true}
		changes = append(changes, netmap.Change{Key: netmap.HostEntryKey(e.ID), Value: e})
	}
	records, err := netmap.RecordsOf(v.Decided+1, changes)
	if err != nil {
		h.c.t.Fatal(err)
	}
	cluster := h.Report().Cluster
	return []netmap.Batch{
		{Origin: cluster, Life: v.Generation, Prev: v.Decided, Seq: v.Decided + 1, Records: records},
		{Origin: cluster, Life: 1<<63 - 1, Seq: v.Decided + 1, Whole: true, Records: records},
		{Origin: cluster, Life: 1<<64 - 1, Seq: 1, Whole: true},
	}
}

// misled is the gossip of a host whose facts say wrongly that it was removed.
type misled struct {
	plugin.Gossip
	wrong *atomic.Bool
}

func (m misled) Removed(id netmap.HostID) bool { return m.wrong.Load() || m.Gossip.Removed(id) }

// TestWhatFactsSayOfARemovalIsAsked: a host whose facts say that it was removed asks the keepers, and
// gives up nothing that they do not confirm. If it cannot reach them, it hands out nothing new and says
// what to do.
func TestWhatFactsSayOfARemovalIsAsked(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		var wrong atomic.Bool
		hosts := up(c, 4, func(h *host) {
			if len(c.hosts) == 4 {
				h.deps.Gossip = func(cfg gossip.Config) (plugin.Gossip, error) {
					g, err := gossip.Start(cfg)
					return misled{g, &wrong}, err
				}
			}
		})
		last := hosts[3]
		network := last.network("web", "10.40.0.0/24")
		wrong.Store(true)
		time.Sleep(10 * time.Second)
		last.run("denied", network, "")
		last.cut()
		last.problem(time.Minute, "do not confirm", "keeps its identity", "weft host new-identity --force")
		begin := time.Now()
		_, err := last.docker.Run(t.Context(), "unconfirmed", network, addr(""))
		fails(t, begin, err, "do not confirm")
		last.heal()
		last.until("it hands out again", time.Minute, func() bool { return len(last.Report().Problems) == 0 })
		last.run("denied again", network, "")
		if last.ends() {
			t.Error("it gave up its identity")
		}
		last.removedInPassing(hosts[0])
		wrong.Store(false)
		last.reborn()
	})
}
