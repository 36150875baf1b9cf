package gossip_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
)

// stranger is a port on the network without an agent behind it.
func (w *town) stranger(n int) *underlay.Port {
	w.t.Helper()
	port, err := underlay.Open(underlay.Config{Listen: netip.AddrPortFrom(addrOf(n), 7950), Network: w.net.Host(addrOf(n))})
	if err != nil {
		w.t.Fatal(err)
	}
	return port
}

// garbage is the ith of many datagrams that no agent sends.
func garbage(chance *rand.Rand, i int) []byte {
	good := append([]byte{0xf7, form, 'b'}, ours[:]...)
	good = netmap.AppendBatch(good, netmap.Batch{Origin: id(7), Life: 1, Seq: 3, Records: []netmap.Record{{Seq: 3, Key: netmap.NetworkKey(1), Value: "\xff"}}})
	noise := random(chance, 200)
	switch i % 8 {
	case 1: // our envelope, then noise
		return append(append([]byte{0xf7, form, "bhdmx"[chance.IntN(5)]}, ours[:]...), noise...)
	case 2:
		return append([]byte{0xf7, form, 'm'}, noise...)
	case 3:
		return good[:chance.IntN(len(good))]
	case 4:
		return good
	case 5:
		return append(append([]byte{0xf7, form, 'b'}, theirs[:]...), noise...)
	}
	return noise
}

// random are fewer bytes than limit.
func random(chance *rand.Rand, limit int) []byte {
	out := make([]byte, chance.IntN(limit))
	for i := range out {
		out[i] = byte(chance.Uint32())
	}
	return out
}

func TestGarbageIsRefusedCountedAndNamed(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(2)
		stranger := w.stranger(66)
		defer func() { _ = stranger.Close() }()
		chance := rand.New(rand.NewPCG(3, 4))
		for i := range 400 {
			if _, err := stranger.Packets().WriteTo(garbage(chance, i), hosts[0].cfg.Advertise); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 40 {
			conn, err := stranger.Dial(t.Context(), underlay.KindGossip, hosts[0].cfg.Advertise)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			noise := random(chance, 300)
			if i%2 == 0 && len(noise) > 0 {
				noise[0] = byte(i % 14) // one of memberlist's types
			}
			_, _ = conn.Write(noise) // it may hang up before the end
		}
		bodies := map[string][]byte{"short": {1}, "foreign": append(theirs[:], 1), "noise": append(slices.Clone(ours[:]), 1, 2, 3)}
		for name, body := range bodies {
			for _, call := range []string{"gossip.pull", "gossip.heads"} {
				if _, err := stranger.Call(t.Context(), hosts[0].cfg.Advertise, call, body); err == nil {
					t.Errorf("%s: %s bytes were answered", call, name)
				}
			}
		}
		w.pass(10 * time.Second)
		s := hosts[0].Stats()
		t.Logf("%+v", s)
		if s.Malformed < 150 || s.Foreign < 50 {
			t.Errorf("not counted: %+v", s)
		}
		log := hosts[0].log.String()
		if n := strings.Count(log, "a datagram was refused"); n == 0 || n > 2 || !strings.Contains(log, "192.0.2.66") {
			t.Errorf("named %d times:\n%s", n, log)
		}
		hosts[1].say(container(2, 1))
		w.settled(5*time.Second, hosts...)
	})
}

// TestADigestThatDiffersIsFollowedUp: heads of old changes are not told any more,
// so the digest is the last way to find a difference.
func TestADigestThatDiffersIsFollowedUp(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(2)
		w.pass(time.Minute)
		stranger := w.stranger(66)
		defer func() { _ = stranger.Close() }()
		other := id(2)
		note := append(append([]byte{0xf7, form, 'd'}, ours[:]...), other[:]...)
		note = netmap.AppendDigest(append(note, 1), netmap.Digest{1, 2, 3})
		before := hosts[1].port.Stats().Requests
		if _, err := stranger.Packets().WriteTo(note, hosts[0].cfg.Advertise); err != nil {
			t.Fatal(err)
		}
		w.until("a request", time.Second, func() bool { return hosts[1].port.Stats().Requests > before })
	})
}

// TestLogsThatDoNotExistArePulledByFew: anybody can name logs, and each that is behind
// would be a goroutine. A log that is known is pulled all the same.
func TestLogsThatDoNotExistArePulledByFew(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(2)
		stranger := w.stranger(66)
		defer func() { _ = stranger.Close() }()
		before, most := runtime.NumGoroutine(), 0
		for i := range 200 {
			var heads []netmap.Head
			for j := range 25 {
				heads = append(heads, netmap.Head{Origin: netmap.ID{0xee, byte(i), byte(j), 1}, Life: 1, Seq: 1})
			}
			from := id(2)
			note := netmap.AppendHeads(append(append([]byte{0xf7, form, 'h'}, ours[:]...), from[:]...), heads)
			if _, err := stranger.Packets().WriteTo(note, hosts[0].cfg.Advertise); err != nil {
				t.Fatal(err)
			}
			if i == 100 {
				w.pass(time.Millisecond)
				hosts[1].say(container(2, 1))
			}
			most = max(most, runtime.NumGoroutine()-before)
		}
		w.pass(time.Millisecond)
		if most = max(most, runtime.NumGoroutine()-before); most > 700 {
			t.Errorf("%d goroutines more than before", most)
		}
		w.settled(time.Second, hosts...)
		w.until("the end of the pulls", time.Minute, func() bool { return runtime.NumGoroutine() < before+20 })
	})
}

// TestInventedClustersDoNotFloodTheLog: each newcomer says another one.
func TestInventedClustersDoNotFloodTheLog(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(1)
		stranger := w.stranger(66)
		defer func() { _ = stranger.Close() }()
		for i := range 2000 {
			datagram := append([]byte{0xf7, form, 'm'}, alive(i)...)
			if _, err := stranger.Packets().WriteTo(datagram, hosts[0].cfg.Advertise); err != nil {
				t.Fatal(err)
			}
			w.pass(time.Millisecond)
		}
		w.until("the refusals", 10*time.Second, func() bool { return len(hosts[0].Refused()) > 200 })
		if n := strings.Count(hosts[0].log.String(), "\n"); n == 0 || n > 70 {
			t.Errorf("%d lines for 2000 strangers", n)
		}
	})
}

// TestInventedMembersAreFew: more of them than an exchange may name keep nobody out that the
// ledger knows.
func TestInventedMembersAreFew(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		stranger := w.stranger(66)
		defer func() { _ = stranger.Close() }()
		d := gossip.Decisions{Cluster: ours, Generation: 1, Index: 1, Whole: true}
		for n := 1; n <= 4; n++ {
			d.Changes = append(d.Changes, netmap.Change{Key: netmap.HostEntryKey(id(n)), Value: netmap.HostEntry{ID: id(n), Name: fmt.Sprintf("host-%d", n), Index: uint32(n)}})
		}
		if err := hosts[0].PublishDecisions(d); err != nil {
			t.Fatal(err)
		}
		w.until("the decisions", 10*time.Second, func() bool { return hosts[2].View().Decided == 1 })
		w.pass(time.Minute) // by then they have looked whom the ledger knows
		for i := range 10_000 {
			for _, h := range hosts {
				b := alive(i)
				copy(b[bytes.Index(b, []byte("Meta"))+7+18:], ours[:]) // of this cluster
				if _, err := stranger.Packets().WriteTo(append([]byte{0xf7, form, 'm'}, b...), h.cfg.Advertise); err != nil {
					t.Fatal(err)
				}
			}
			w.pass(time.Millisecond)
		}
		for _, h := range hosts {
			if n := len(h.Members()); n < 500 || n > 600 {
				t.Errorf("%s has %d members", h.cfg.Name, n)
			}
		}
		late := w.host(4, ours)
		late.named(hosts[0].cfg.Advertise.Addr())
		late.start()
		w.until("the fourth host and the first see each other", 30*time.Second, func() bool {
			first := slices.ContainsFunc(late.Members(), func(m gossip.Member) bool { return m.ID == id(1) && m.Alive })
			return first && slices.ContainsFunc(hosts[0].Members(), func(m gossip.Member) bool { return m.ID == id(4) && m.Alive })
		})
		if refused := hosts[0].Refused(); len(refused) == 0 || !strings.Contains(refused[0].Text, "hosts that the ledger does not know") {
			t.Errorf("it does not say why it refuses: %v", refused)
		}
	})
}

// alive is memberlist's sign of life of a host of another cluster, in MessagePack.
func alive(n int) []byte {
	meta := make([]byte, 50)
	copy(meta, []byte{form, 0, 0xaa, byte(n >> 8), byte(n)}) // the host
	copy(meta[18:], []byte{0xbb, byte(n >> 8), byte(n)})     // its cluster
	copy(meta[34:], []byte{0, 0, 0, 0, 0, 0, 0, 1})          // its start
	b := append([]byte{4, 0x86}, "\xabIncarnation\x01\xa4Node\xb3"...)
	b = append(b, fmt.Sprintf("%x-000000", meta[2:8])...) // what a start is called
	b = append(b, "\xa4Addr\xa4\xc6\x33"...)
	b = append(b, byte(n>>8), byte(n))
	b = append(b, "\xa4Port\xcd\x1f\x0e\xa4Meta\xda\x00\x32"...)
	b = append(b, meta...)
	b = append(b, "\xa3Vsn\xa6\x01\x05\x02"...)
	if n%2 == 1 { // which would fail every join
		return append(b, form-1, form-1, form-1)
	}
	return append(b, form, form, form)
}

func TestAForeignPullIsRefusedWithBothIDs(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(1)
		stranger := w.stranger(66)
		defer func() { _ = stranger.Close() }()
		_, err := stranger.Call(t.Context(), hosts[0].cfg.Advertise, "gossip.pull", netmap.AppendPulls(slices.Clone(theirs[:]), []netmap.Pull{{Origin: id(1)}}))
		if err == nil || !strings.Contains(err.Error(), ours.String()) || !strings.Contains(err.Error(), theirs.String()) {
			t.Errorf("got %v", err)
		}
	})
}

func TestClonesAreReported(t *testing.T) {
	for name, disguise := range map[string]func(copied *gossip.Config){
		"a copied disk":                 func(c *gossip.Config) { c.Start, c.Nonce = 1, 99<<40 },
		"a copy that started more":      func(c *gossip.Config) { c.Start, c.Nonce = 7, 99<<40 },
		"a machine copied while it ran": func(c *gossip.Config) { c.Start, c.Nonce = 1, 2<<40+1 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, lan, func(t *testing.T, w *town) {
				hosts := w.start(3)
				copied := w.host(4, ours)
				copied.cfg.Host = id(2)
				disguise(&copied.cfg)
				copied.start()
				w.pass(2 * time.Minute)
				told := 0
				for _, h := range w.hosts {
					for len(h.clones) > 0 {
						c := <-h.clones
						if told++; c.Host != id(2) {
							t.Errorf("%s reports %+v", h.cfg.Name, c)
						}
					}
				}
				if told < 2 {
					t.Errorf("told %d times", told)
				}
				if told > 40 {
					t.Errorf("told %d times in two minutes", told)
				}
				_ = hosts
			})
		})
	}
}

func TestAnOlderDiskIsReported(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		hosts[1].restart()
		hosts[1].restart()
		w.settled(30*time.Second, hosts...)
		w.pass(2 * time.Minute) // the earlier starts are forgotten
		hosts[1].stop()
		w.pass(2 * time.Minute)
		hosts[1].cfg.Start, hosts[1].cfg.Nonce = 1, 77<<40
		hosts[1].restart() // start 2 again, with another nonce
		w.until("the report", time.Minute, func() bool { return len(hosts[1].clones) > 0 })
		if c := <-hosts[1].clones; c.Host != id(2) || c.A.Start != 3 {
			t.Errorf("got %+v", c)
		}
	})
}

// TestFactsThatDifferAreFetchedAnew: two writers under one identity leave copies
// that are equally far and differ; the origin's own word counts.
func TestFactsThatDifferAreFetchedAnew(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(2)
		forged := container(2, 200)
		records, err := netmap.RecordsOf(2, []netmap.Change{forged})
		if err != nil {
			t.Fatal(err)
		}
		forge(t, hosts[1].port, hosts[0], netmap.Batch{Origin: id(2), Life: 1, Prev: 1, Seq: 2, Records: records})
		w.until("the forgery", time.Second, func() bool { return has(hosts[0].View(), forged) })
		w.net.Cut(addrOf(1), addrOf(2))
		hosts[1].say(container(2, 1))
		w.net.HealAll()
		w.until("the truth", 15*time.Second, func() bool {
			return has(hosts[0].View(), container(2, 1)) && !has(hosts[0].View(), forged)
		})
	})
}
