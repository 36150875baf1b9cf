package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/loglimit"
	"github.com/weftnet/weft/netmap"
)

// greetingCases are greetings of host 2, which was seen with its start 1 of nonce 7,
// to host 1. A dialler brings a removed host up to date.
var greetingCases = map[string]struct {
	change           func(*greeting)
	listens, dialled bool
}{
	"as seen":                        {func(*greeting) {}, true, true},
	"a newer start, no earlier ones": {func(g *greeting) { g.incarnation = start(2, 1) }, true, true},
	"a newer start": {func(g *greeting) {
		g.incarnation, g.earlier = start(3, 1), []state.Incarnation{start(2, 9), start(1, 7)}
	}, true, true},
	"this keeper lags": {func(g *greeting) { g.incarnation, g.earlier = start(9, 1), []state.Incarnation{start(8, 9)} }, true, true},
	"another cluster":  {func(g *greeting) { g.cluster[0]++ }, false, false},
	"for another host": {func(g *greeting) { g.to[0]++ }, false, false},
	"a clone":          {func(g *greeting) { g.incarnation.Nonce++ }, false, false},
	"an old disk":      {func(g *greeting) { g.incarnation.Start = 0 }, false, false},
	"an old disk, started often": {func(g *greeting) {
		g.incarnation, g.earlier = start(3, 1), []state.Incarnation{start(2, 9), start(1, 8), start(0, 5)}
	}, false, false},
	"a removed host": {func(g *greeting) { g.from = hostID(3) }, false, true},
	"a newcomer":     {func(g *greeting) { g.from = hostID(9) }, true, true},
}

func TestStreamsForOthersAreRefused(t *testing.T) {
	for name, c := range greetingCases {
		g := greeting{cluster: clusterID, to: hostID(1), from: hostID(2), incarnation: start(1, 7)}
		c.change(&g)
		if got := accepted(t, testLayer(t, nil), g.encode(g.to)); got != c.listens {
			t.Errorf("%s: listened to: %t", name, got)
		}
		if err := dialled(testLayer(t, g.encode(g.to)), g.from); (err == nil) != c.dialled {
			t.Errorf("%s: dialled: %v", name, err)
		}
	}
	for name, raw := range map[string][]byte{"garbage": bytes.Repeat([]byte{0xff}, 2*greetingLen), "too short": []byte("x"), "too many earlier starts": append(greeting{}.encode(hostID(1))[:greetingLen-2], 0xff, 0xff)} {
		if accepted(t, testLayer(t, nil), raw) || dialled(testLayer(t, raw), hostID(2)) == nil {
			t.Errorf("%s is taken for a greeting", name)
		}
	}
	if other := (greeting{cluster: clusterID, from: hostID(9)}).encode(hostID(1)); dialled(testLayer(t, other), hostID(2)) == nil {
		t.Error("another host answered, and is listened to")
	}
}

// TestAHostWhoseOwnLogKnowsBetterKeepsOut: nobody listens to it, and it to nobody.
func TestAHostWhoseOwnLogKnowsBetterKeepsOut(t *testing.T) {
	g := greeting{cluster: clusterID, from: hostID(2), incarnation: start(1, 7)}.encode(hostID(1))
	l := testLayer(t, g)
	l.self.incarnation, l.self.earlier = start(3, 1), []state.Incarnation{start(2, 1), start(1, 8)}
	if accepted(t, l, g) || dialled(l, hostID(2)) == nil {
		t.Error("an old disk has streams")
	}
}

// testLayer is host 1's. Whoever it dials answers so.
func testLayer(t *testing.T, answer []byte) *layer {
	c := newCluster(t, 3)
	c.ok(state.Command{Kind: state.KindRemove, Host: hostID(1), Remove: &state.Remove{Target: hostID(3), IsOff: true}})
	m := &machine{state: c.state, leads: func() bool { return false }}
	l := &layer{
		log: loglimit.New(slog.New(slog.DiscardHandler)), conns: map[net.Conn]*opened{}, underlay: answering(answer),
		self: greeting{cluster: clusterID, from: hostID(1), incarnation: start(1, 7)},
	}
	l.fenced = func(g greeting, dialled bool) error { return m.fenced(l.self, g, dialled) }
	l.admits = func(netmap.HostID, netip.Addr) error { return nil }
	l.places = func(netmap.HostID) []netip.AddrPort { return nil }
	return l
}

// accepted reports whether what follows a greeting is read, after an answer to it.
func accepted(t *testing.T, l *layer, sent []byte) bool {
	near, far := net.Pipe()
	defer far.Close()
	answer := make(chan greeting, 1)
	go func() {
		defer near.Close()
		if _, err := near.Write(sent); err != nil || len(sent) < greetingLen {
			return
		}
		if g, err := readGreeting(near); err == nil {
			answer <- g
			_, _ = near.Write([]byte("!"))
		}
	}()
	b := make([]byte, 1)
	switch n, err := (&guarded{Conn: far, layer: l}).Read(b); {
	case n == 1 && b[0] == '!' && err == nil:
		if g := <-answer; g.from != hostID(1) || g.cluster != clusterID {
			t.Errorf("answered by %+v", g)
		}
		return true
	case !errors.Is(err, io.EOF):
		t.Errorf("read %d bytes, %v", n, err)
	}
	return false
}

func dialled(l *layer, to [16]byte) error {
	conn, err := l.Dial(serverAddress(to, netip.MustParseAddrPort("192.0.2.2:7950")), time.Second)
	if err == nil {
		return conn.Close()
	}
	if len(l.conns) > 0 {
		return nil // it must not stay open
	}
	return err
}

// answering is an underlay where everybody answers a stream with these bytes.
type answering []byte

func (a answering) Dial(context.Context, byte, netip.AddrPort) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		_, _ = readGreeting(far)
		_, _ = far.Write(a)
		_ = far.Close()
	}()
	return near, nil
}

func (answering) Stream(byte) net.Listener { return nil }

func (answering) Handle(string, func(context.Context, netip.AddrPort, []byte) ([]byte, error)) {}

func (answering) Call(context.Context, netip.AddrPort, string, []byte) ([]byte, error) {
	return nil, io.EOF
}

func FuzzGreeting(f *testing.F) {
	f.Add(greeting{cluster: clusterID, from: hostID(2), incarnation: start(3, 9), earlier: []state.Incarnation{start(2, 8), start(1, 7)}}.encode(hostID(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		g, err := readGreeting(r)
		if err == nil && !bytes.Equal(g.encode(g.to), b[:len(b)-r.Len()]) {
			t.Errorf("%x came back as %s", b, cmp.Diff(b, g.encode(g.to)))
		}
	})
}

func TestManyEarlierStartsAreCut(t *testing.T) {
	g := greeting{earlier: slices.Repeat([]state.Incarnation{start(1, 2)}, 2*maxEarlier)}
	if got, err := readGreeting(bytes.NewReader(g.encode(hostID(1)))); err != nil || len(got.earlier) != maxEarlier {
		t.Errorf("%d starts, %v", len(got.earlier), err)
	}
}

// TestStrangersDoNotFloodTheLog: every stream that is refused would be a line.
func TestStrangersDoNotFloodTheLog(t *testing.T) {
	var out bytes.Buffer
	log := loglimit.New(slog.New(slog.NewTextHandler(&out, nil)))
	l := testLayer(t, nil)
	l.log = log
	raft := lineLog{log}
	for i := range 200 {
		strange := greeting{cluster: clusterID, from: hostID(2), incarnation: start(1, 7)}.encode(hostID(9))
		if accepted(t, l, strange) {
			t.Fatal("a stream for another host is accepted")
		}
		_, _ = fmt.Fprintf(raft, "[ERROR] raft-net: failed to decode incoming command: error=%d\n", i)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want one of each kind:\n%s", n, out.String())
	}
}

func start(n, nonce uint64) state.Incarnation { return state.Incarnation{Start: n, Nonce: nonce} }
