package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/loglimit"
	"github.com/weftnet/weft/netmap"
)

func TestIdentitySurvivesEncoding(t *testing.T) {
	for _, m := range []meta{
		{Host: netmap.HostID{1}, Start: 1},
		{Host: netmap.HostID{1}, Cluster: netmap.ClusterID{2}, Start: 1 << 60, Nonce: 1 << 63, Keeper: true, Name: "web-1"},
	} {
		b := m.encode()
		if len(b) > maxMeta {
			t.Errorf("%d bytes", len(b))
		}
		got, err := decodeMeta(b)
		if diff := cmp.Diff(m, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
	long := meta{Host: netmap.HostID{1}, Start: 1, Name: strings.Repeat("n", 300) + "\x1b[2J"}
	got, err := decodeMeta(long.encode())
	if err != nil || len(got.Name) == 0 || !strings.HasPrefix(long.Name, got.Name) {
		t.Errorf("a long name becomes %q, %v", got.Name, err)
	}
	bad := meta{Host: netmap.HostID{1}, Start: 1, Name: "a\x1b[2Jb"}
	if got, err := decodeMeta(bad.encode()); err != nil || got.Name != "a[2Jb" {
		t.Errorf("a name with escapes becomes %q, %v", got.Name, err)
	}
}

func TestIdentitiesThatAreRefused(t *testing.T) {
	own := meta{Host: netmap.HostID{1}, Cluster: netmap.ClusterID{1}, Start: 1}
	other := meta{Host: netmap.HostID{2}, Cluster: netmap.ClusterID{2}, Start: 1}
	newcomer := meta{Host: netmap.HostID{3}, Start: 1}
	if err := own.accepts(other.encode()); !errors.Is(err, errForeign) {
		t.Errorf("another cluster: %v", err)
	}
	for _, pair := range [][2]meta{{own, newcomer}, {newcomer, own}, {own, own}, {newcomer, newcomer}} {
		if err := pair[0].accepts(pair[1].encode()); err != nil {
			t.Errorf("%+v refuses %+v: %v", pair[0], pair[1], err)
		}
	}
	later := other.encode()
	later[0] = protocol.Newest + 1
	var version *protocolError
	if err := own.accepts(later); !errors.As(err, &version) {
		t.Errorf("another protocol: %v", err)
	}
	for _, b := range [][]byte{nil, {protocol.Written}, make([]byte, 60), append(other.encode(), make([]byte, 60)...)} {
		if err := own.accepts(b); err == nil {
			t.Errorf("% x was accepted", b)
		}
	}
}

// TestTwoReleasesUnderstandEachOther: a release that reads the next version takes it from
// whoever writes it, and is itself read by the release before.
func TestTwoReleasesUnderstandEachOther(t *testing.T) {
	own := meta{Host: netmap.HostID{1}, Cluster: netmap.ClusterID{1}, Start: 1}
	before := protocol
	t.Cleanup(func() { protocol = before })
	written := func(v netmap.Forms) (identity, datagram, digest []byte) {
		protocol = v
		return own.encode(), encodePacket(packetDigest, own.Cluster, 0), (&Gossip{facts: netmap.NewMap(own.Cluster)}).localState()
	}
	first, second, third := netmap.Forms{Oldest: 1, Written: 1, Newest: 1}, netmap.Forms{Oldest: 1, Written: 1, Newest: 2}, netmap.Forms{Oldest: 1, Written: 2, Newest: 2}
	for _, c := range []struct {
		from, to netmap.Forms
		reads    bool
	}{{first, second, true}, {second, first, true}, {second, third, true}, {third, second, true}, {third, first, false}} {
		identity, datagram, digest := written(c.from)
		protocol = c.to
		_, err1 := decodeMeta(identity)
		_, err2 := decodePacket(datagram)
		g := &Gossip{}
		g.identity.Store(&meta{})
		g.mergeRemoteState(digest)
		if (err1 == nil) != c.reads || (err2 == nil) != c.reads || (g.stats.malformed.Load() == 0) != c.reads {
			t.Errorf("%v is to be read by %v: %v; identity %v, datagram %v, %d malformed", c.from, c.to, c.reads, err1, err2, g.stats.malformed.Load())
		}
	}
}

func TestRefusalsNameTheCause(t *testing.T) {
	own := meta{Host: netmap.HostID{1}, Cluster: netmap.ClusterID{1}, Start: 1, Name: "me"}
	r, at := refusals{}, time.Unix(1000, 0)
	peer := netip.MustParseAddrPort("[2001:db8::2]:7950")
	later := own.encode()
	later[0] = 9
	got := r.add(event{kind: eventRefused, addr: peer, meta: later, why: &protocolError{theirs: 9}}, own, at)
	if !strings.Contains(got.Text, "version 9") || !strings.Contains(got.Text, peer.String()) {
		t.Errorf("%q", got.Text)
	}
	got = r.add(event{kind: eventRefused, addr: peer, meta: []byte{protocol.Written}}, own, at.Add(time.Hour))
	if got.Count != 2 || !got.First.Equal(at) || !strings.Contains(got.Text, "cannot be understood") {
		t.Errorf("%+v", got)
	}
	for i := range 2 * maxRefused {
		r.add(event{addr: netip.AddrPortFrom(peer.Addr(), uint16(i))}, own, at.Add(2*time.Hour+time.Duration(i)))
	}
	if len(r) != maxRefused || len(r.list()) != maxRefused {
		t.Errorf("%d are remembered", len(r))
	}
	if r.expire(at.Add(2*time.Hour + refusedFor/2)); len(r) != maxRefused {
		t.Errorf("%d are remembered, some were forgotten too early", len(r))
	}
	if r.expire(at.Add(3 * time.Hour)); len(r) > 0 {
		t.Errorf("%d are remembered for ever", len(r))
	}
}

func FuzzDatagram(f *testing.F) {
	own := meta{Host: netmap.HostID{1}, Cluster: netmap.ClusterID{2}, Start: 1}
	f.Add(own.encode())
	f.Add(append(encodePacket(packetDigest, own.Cluster, 0), digestNote{From: own.Host}.body()...))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if m, err := decodeMeta(b); err == nil {
			_ = refusalOf(event{meta: m.encode()}, own)
		}
		p, err := decodePacket(b)
		if err != nil {
			return
		}
		_, _ = decodeDigestNote(p.Cluster, p.Body)
	})
}

// FuzzMeta: what says who a host is comes back as it was, as far as it is kept.
func FuzzMeta(f *testing.F) {
	f.Add(meta{Host: netmap.HostID{1}, Cluster: netmap.ClusterID{2}, Start: 1, Nonce: 7, Keeper: true, Name: "web-1"}.encode())
	f.Add(meta{Host: netmap.HostID{1}, Start: 1 << 63, Name: "a\x1b[2J"}.encode())
	f.Add([]byte{protocol.Newest + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(m.encode())
		if err != nil || again != m || len(m.encode()) > len(b) {
			t.Errorf("%x is %+v, which is read as %+v, %v", b, m, again, err)
		}
		_ = nodeName(m.Host, m.Nonce)
	})
}

func TestTheEventQueueKeepsOrderAndTheNewestEvents(t *testing.T) {
	m := newEventQueue()
	m.put(event{kind: eventAlive, name: "a"})
	m.put(event{kind: eventAlive, name: "b"})
	m.put(event{kind: eventDead, name: "a"})
	m.put(event{kind: eventRefused, name: "a"})
	var got []string
	for _, e := range m.take() {
		got = append(got, fmt.Sprint(e.name, e.kind))
	}
	if diff := cmp.Diff([]string{"a1", "b0", "a2"}, got); diff != "" {
		t.Error(diff)
	}
	for i := range 2 * eventQueueLimit {
		m.put(event{kind: eventRefused, name: fmt.Sprint(i)})
	}
	m.put(event{kind: eventDead, name: "c"})
	if list := m.take(); len(list) != eventQueueLimit+1 || list[eventQueueLimit].name != "c" {
		t.Errorf("%d events", len(list))
	}
	if len(m.take()) != 0 {
		t.Error("events were given out twice")
	}
}

func TestPaceLetsABurstPass(t *testing.T) {
	p := pace{rate: paceRate, burst: paceBurst}
	now := time.Unix(100, 0)
	for i := range paceBurst / 100 {
		if wait := p.take(now, 100); wait != 0 || p.ready(now) > 0 != (i == paceBurst/100-1) {
			t.Fatalf("datagram %d waits %s, the next %s", i, wait, p.ready(now))
		}
	}
	if wait := p.take(now, 100); wait != 100*time.Second/paceRate {
		t.Errorf("the next waits %s", wait)
	}
	if wait := p.take(now.Add(time.Second), 100); wait != 0 {
		t.Errorf("a second later: %s", wait)
	}
}

func TestRosterKnowsTheLatestStart(t *testing.T) {
	host, now := netmap.HostID{9}, time.Unix(1000, 0)
	r := newRoster(Member{ID: netmap.HostID{1}, Start: 1, Nonce: 1, Alive: true})
	at := netip.MustParseAddrPort("192.0.2.9:7950")
	see := func(kind eventKind, start, nonce uint64) bool {
		m := meta{Host: host, Start: start, Nonce: nonce}
		return r.update(event{kind: kind, name: nodeName(host, nonce<<40), addr: at}, m, now)
	}
	if !see(eventAlive, 1, 10) || see(eventAlive, 1, 10) {
		t.Error("coming alive is said not once")
	}
	see(eventAlive, 2, 20)
	see(eventDead, 1, 10)
	if got := r.hosts(); len(got) != 1 || got[0].Start != 2 || !got[0].Alive {
		t.Errorf("%+v", got)
	}
	if got := r.clones(now.Add(time.Hour), r.doubtful()...); got != nil {
		t.Errorf("a restart is a clone: %+v", got)
	}
	see(eventAlive, 1, 10)
	if got := r.clones(now.Add(ghostTime/2), host); got != nil {
		t.Errorf("an earlier start that was not noticed dead yet is a clone: %+v", got)
	}
	later := now.Add(2 * ghostTime)
	if got := r.clones(later, r.doubtful()...); got != nil {
		t.Errorf("an earlier start at the later one's address is a clone: %+v", got)
	}
	at = netip.MustParseAddrPort("192.0.2.10:7950")
	see(eventAlive, 1, 10)
	if got := r.clones(later, r.doubtful()...); len(got) != 1 || got[0].A.Start != 2 || got[0].B.Start != 1 {
		t.Errorf("%+v", got)
	}
	if got := r.clones(later, r.doubtful()...); got != nil {
		t.Errorf("told twice: %+v", got)
	}
	see(eventDead, 1, 10)
	r.prune(later.Add(time.Hour), func(netmap.HostID) bool { return false })
	if len(r.nodes) != 1 {
		t.Errorf("%d starts are kept", len(r.nodes))
	}
	see(eventDead, 2, 20)
	r.prune(later.Add(time.Hour), func(id netmap.HostID) bool { return id == host })
	if len(r.nodes) != 0 {
		t.Error("a removed host is kept")
	}
	for i := range maxDead + 10 {
		now = now.Add(time.Second)
		host = netmap.HostID{3, byte(i >> 8), byte(i)}
		see(eventDead, 1, uint64(i+100))
	}
	r.prune(now, func(netmap.HostID) bool { return false })
	if len(r.nodes) != maxDead {
		t.Errorf("%d dead hosts are kept", len(r.nodes))
	}
}

func TestAViewIsTakenWithoutALock(t *testing.T) {
	id := netmap.HostID{2}
	g := &Gossip{facts: netmap.NewMap(netmap.ClusterID{1}), dirty: map[netmap.ID]bool{}, repair: newRepairs()}
	g.mu.Lock()
	defer g.mu.Unlock()
	effect, err := g.facts.Append(id, 1, []netmap.Change{{Key: netmap.HostFactKey(id), Value: netmap.HostFact{MTU: 1500}}})
	if err != nil {
		t.Fatal(err)
	}
	g.afterChange(id, effect)
	taken := make(chan *netmap.View, 1)
	go func() { taken <- g.View() }()
	select {
	case v := <-taken:
		if h, _ := v.Host(id); h.Fact.MTU != 1500 {
			t.Errorf("the view has %+v", v.Hosts)
		}
	case <-time.After(10 * time.Second):
		t.Error("View waits for the lock")
	}
}

func TestPeersAreRemembered(t *testing.T) {
	var p peerBook
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port) }
	p.add(Member{ID: netmap.HostID{1}, Addr: at(1)})
	p.add(Member{ID: netmap.HostID{2}, Addr: at(2)})
	p.add(Member{ID: netmap.HostID{1}, Addr: at(3)}) // it moved
	p.add(Member{ID: netmap.HostID{4}, Addr: at(2)}) // it took an address over
	if diff := cmp.Diff([]string{at(3).String(), at(2).String()}, texts(p.list())); diff != "" {
		t.Error(diff)
	}
	p.drop(func(id netmap.HostID) bool { return id == netmap.HostID{1} })
	for i := range 2 * maxPeers {
		p.add(Member{ID: netmap.HostID{5, byte(i >> 8), byte(i)}, Addr: at(uint16(i + 100))})
	}
	if len(p.list()) != maxPeers || !p.changed {
		t.Errorf("%d peers", len(p.list()))
	}
}

func texts[T fmt.Stringer](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

func TestHeldBatchesAreBounded(t *testing.T) {
	r := newRepairs()
	for i := range 100 {
		r.hold(netmap.Batch{Origin: netmap.ID{1}, Prev: uint64(100 - i)})
	}
	got := r.release(netmap.ID{1})
	if len(got) != maxHeld || !slices.IsSortedFunc(got, func(a, b netmap.Batch) int { return int(a.Prev) - int(b.Prev) }) {
		t.Errorf("%d held", len(got))
	}
	for i := range 2 * maxHeldInAll {
		r.hold(netmap.Batch{Origin: netmap.ID{byte(i >> 8), byte(i), 1}})
	}
	if len(r.held) != maxHeldInAll {
		t.Errorf("held for %d origins", len(r.held))
	}
	r.release(netmap.ID{0, 0, 1})
	if r.hold(netmap.Batch{Origin: netmap.ID{9}}); len(r.held[netmap.ID{9}]) != 1 {
		t.Error("nothing is held after some was released")
	}
}

func TestNewsFitsADatagram(t *testing.T) {
	r, facts, self, now := newRepairs(), netmap.NewMap(netmap.ClusterID{1}), netmap.HostID{2}, time.Unix(1000, 0)
	for i := range 200 {
		origin := netmap.ID{3, byte(i)}
		if i == 0 {
			origin = self
		}
		if _, err := facts.Append(origin, 1<<62, []netmap.Change{{Key: netmap.NetworkKey(1), Value: netmap.Network{ID: 1}}}); err != nil {
			t.Fatal(err)
		}
		r.touch(origin, now)
	}
	g := &Gossip{cfg: Config{Host: self}}
	news := r.news(facts, self, false, now)
	if news[0].Origin != self || len(g.headsPacket(netmap.ClusterID{1}, news)) > maxPacket {
		t.Errorf("%d heads in %d bytes", len(news), len(g.headsPacket(netmap.ClusterID{1}, news)))
	}
	if got := r.news(facts, self, false, now.Add(2*headsRecent)); len(got) != 0 || len(r.touched) != 0 {
		t.Errorf("old news: %v", got)
	}
}

// TestTheLeaderTellsOfTheLedgerLongest: every host hears of each decision, so only who sends it tells for long how
// far the ledger's log is.
func TestTheLeaderTellsOfTheLedgerLongest(t *testing.T) {
	cluster, self, now := netmap.ClusterID{1}, netmap.HostID{2}, time.Unix(1000, 0)
	for _, lead := range []bool{true, false} {
		r, facts := newRepairs(), netmap.NewMap(cluster)
		if _, err := facts.Append(cluster, 1, []netmap.Change{{Key: netmap.NetworkKey(1), Value: netmap.Network{ID: 1}}}); err != nil {
			t.Fatal(err)
		}
		r.touch(cluster, now)
		for after, told := range map[time.Duration]bool{headsOthers: true, headsOthers + time.Second: lead, headsRecent: lead, headsRecent + time.Second: false} {
			if got := r.news(facts, self, lead, now.Add(after)); len(got) == 1 != told {
				t.Errorf("the leader: %v; %s after a decision it tells %v", lead, after, got)
			}
			r.touch(cluster, now)
		}
	}
}

func TestOnlyMemberlistsErrorsAreLogged(t *testing.T) {
	var out bytes.Buffer
	log := memberlistLog{loglimit.New(slog.New(slog.NewTextHandler(&out, nil)))}
	for _, line := range []string{"[ERR] memberlist: broken\n", "[DEBUG] memberlist: fine\n"} {
		if got, err := log.Write([]byte(line)); got != len(line) || err != nil {
			t.Error(got, err)
		}
	}
	if !strings.Contains(out.String(), "broken") || strings.Contains(out.String(), "fine") {
		t.Error(out.String())
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"nothing":     {},
		"no start":    {Host: netmap.HostID{1}},
		"no address":  {Host: netmap.HostID{1}, Start: 1},
		"any address": {Host: netmap.HostID{1}, Start: 1, Advertise: netip.MustParseAddrPort("0.0.0.0:7950")},
		"no underlay": {Host: netmap.HostID{1}, Start: 1, Advertise: netip.MustParseAddrPort("192.0.2.1:7950")},
	} {
		if _, err := Start(c); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}
