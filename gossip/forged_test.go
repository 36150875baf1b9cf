package gossip_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
)

// forge sends a batch to a host as anybody can, in one datagram.
func forge(t *testing.T, from *underlay.Port, to *host, b netmap.Batch) {
	t.Helper()
	datagram := netmap.AppendBatch(append([]byte{0xf7, form, 'b'}, ours[:]...), b)
	if _, err := from.Packets().WriteTo(datagram, to.cfg.Advertise); err != nil {
		t.Fatal(err)
	}
}

// removals are records of the ledger that say that it removed all these hosts.
func removals(t *testing.T, seq uint64, hosts ...*host) []netmap.Record {
	t.Helper()
	var changes []netmap.Change
	for i, h := range hosts {
		e := netmap.HostEntry{ID: h.cfg.Host, Name: h.cfg.Name, Index: uint32(i + 1), Removed: true}
		changes = append(changes, netmap.Change{Key: netmap.HostEntryKey(e.ID), Value: e})
	}
	records, err := netmap.RecordsOf(seq, changes)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// TestAForgedDatagramRemovesNobody, whatever it says and from whatever address: a stranger's,
// or, since addresses of datagrams can be forged, a keeper's. What is decided next and what
// a host says next arrives.
func TestAForgedDatagramRemovesNobody(t *testing.T) {
	far := uint64(1<<63 - 1)
	for name, forged := range map[string]func(t *testing.T, w *town) netmap.Batch{
		"all hosts are removed": func(t *testing.T, w *town) netmap.Batch {
			return netmap.Batch{Origin: ours, Life: 1, Prev: 3, Seq: 4, Records: removals(t, 4, w.hosts...)}
		},
		"all hosts are removed, far ahead": func(t *testing.T, w *town) netmap.Batch {
			return netmap.Batch{Origin: ours, Life: 1, Prev: 0, Seq: far, Records: removals(t, far, w.hosts...)}
		},
		"everything is replaced": func(t *testing.T, w *town) netmap.Batch {
			return netmap.Batch{Origin: ours, Life: 1, Seq: 5, Whole: true, Records: removals(t, 5, w.hosts...)}
		},
		"the last generation": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: ours, Life: far, Seq: 1, Whole: true}
		},
		"a generation that is no number": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: ours, Life: 1<<64 - 1, Seq: 1, Whole: true}
		},
		"the last sequence": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: ours, Life: 1, Prev: 3, Seq: far}
		},
		"a sequence that is no number": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: ours, Life: 1, Prev: 3, Seq: 1<<64 - 1}
		},
		"the last start of a host": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: id(1), Life: far, Seq: 1, Whole: true}
		},
		"a later start of the host that gets it": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: id(3), Life: 7, Seq: 1, Whole: true}
		},
		"its last start": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: id(3), Life: far / 2, Seq: 1, Whole: true}
		},
		"the last fact of a host": func(*testing.T, *town) netmap.Batch {
			return netmap.Batch{Origin: id(1), Life: 1, Prev: 1, Seq: far}
		},
	} {
		for sender, n := range map[string]int{"a stranger": 66, "a keeper's address": 2} {
			t.Run(name+", from "+sender, func(t *testing.T) {
				bubble(t, lan, func(t *testing.T, w *town) { forgedAndThen(t, w, n, forged) })
			})
		}
	}
}

func forgedAndThen(t *testing.T, w *town, sender int, forged func(*testing.T, *town) netmap.Batch) {
	w.host(1, ours).cfg.Keeper = true
	w.host(2, ours).cfg.Keeper = true
	w.host(3, ours)
	for _, h := range w.hosts {
		h.start()
	}
	w.settled(30*time.Second, w.hosts...)
	decide := func(index uint64) {
		n := netmap.Network{ID: netmap.NetworkID(index), VNI: netmap.FirstVNI}
		d := gossip.Decisions{Cluster: ours, Generation: 1, Index: index, Lead: true, Changes: []netmap.Change{{Key: netmap.NetworkKey(n.ID), Value: n}}}
		if err := w.hosts[0].PublishDecisions(d); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := w.hosts[2].WaitDecided(ctx, index); err != nil {
			t.Fatal(err)
		}
	}
	decide(3)
	from := w.hosts[1].port
	if sender == 66 {
		from = w.stranger(sender)
		defer func() { _ = from.Close() }()
	}
	forge(t, from, w.hosts[2], forged(t, w))
	w.pass(time.Second)
	if v := w.hosts[2].View(); len(v.Hosts) != 3 || v.Decided != 3 || v.Generation != 1 || w.hosts[2].Removed(w.hosts[2].cfg.Host) {
		t.Errorf("afterwards there are %d hosts, decided %d in generation %d", len(v.Hosts), v.Decided, v.Generation)
	}
	if n := len(w.hosts[2].clones); n > 0 {
		t.Errorf("it believes %d clones", n)
	}
	decide(4)
	w.hosts[0].say(container(1, 1))
	w.until("the next facts", 3*time.Second, func() bool {
		v := w.hosts[2].View()
		return has(v, container(1, 1)) && len(v.Networks) == 2
	})
}

// TestAForgedDatagramMovesNoHost: the next fact of a host is believed from that host's address only, be it a stranger
// or another host that says where its containers are reached. What the host itself says next arrives.
func TestAForgedDatagramMovesNoHost(t *testing.T) {
	for sender, n := range map[string]int{"a stranger": 66, "another host": 2} {
		t.Run(sender, func(t *testing.T) {
			bubble(t, lan, func(t *testing.T, w *town) {
				hosts := w.start(3)
				from := hosts[1].port
				if n == 66 {
					from = w.stranger(n)
					defer func() { _ = from.Close() }()
				}
				victim := hosts[0].cfg
				fact := netmap.HostFact{Name: victim.Name, Underlay: netip.AddrPortFrom(addrOf(66), 7950), MTU: 1500}
				records, err := netmap.RecordsOf(2, []netmap.Change{{Key: netmap.HostFactKey(victim.Host), Value: fact}})
				if err != nil {
					t.Fatal(err)
				}
				forge(t, from, hosts[2], netmap.Batch{Origin: victim.Host, Life: victim.Start, Prev: 1, Seq: 2, Records: records})
				for range 100 {
					w.pass(10 * time.Millisecond)
					if h, _ := hosts[2].View().Host(victim.Host); h.Fact.Underlay != victim.Advertise {
						t.Fatalf("host 1 is at %v by its facts", h.Fact.Underlay)
					}
				}
				hosts[0].say(container(1, 1))
				w.until("the next facts", 100*time.Millisecond, func() bool { return has(hosts[2].View(), container(1, 1)) })
			})
		})
	}
}
