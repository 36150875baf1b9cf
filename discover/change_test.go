package discover_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weftnet/weft/discover"
)

// list is a host's peers, which a test changes and starts again.
type list struct {
	*discover.Peers
	t    *testing.T
	join []string
	disk *disk
}

// do changes the peers; the answer must have these words.
func (l *list) do(change func(context.Context, string) (string, error), entry string, words ...string) {
	l.t.Helper()
	text, err := change(l.t.Context(), entry)
	if err != nil {
		text = "error: " + err.Error()
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			l.t.Errorf("%s: %q does not say %q", entry, text, w)
		}
	}
}

// restart opens the peers with what is on disk.
func (l *list) restart(join ...string) {
	l.t.Helper()
	l.Peers = open(l.t, discover.Config{Join: join, Disk: l.disk})
}

// is compares the peers, now and after a restart.
func (l *list) is(want string) {
	l.t.Helper()
	if got := entries(l.Peers); got != want {
		l.t.Errorf("the peers are %s, want %s", got, want)
	}
	if got := entries(open(l.t, discover.Config{Join: l.join, Disk: l.disk})); got != want {
		l.t.Errorf("after a restart the peers are %s, want %s", got, want)
	}
}

func entries(p *discover.Peers) string {
	var out []string
	for _, f := range p.Report() {
		s := f.Entry
		if f.Connected {
			s += " connected"
		}
		if f.Forgotten {
			s += " forgotten"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestConnectAndForget(t *testing.T) {
	l := &list{t: t, join: []string{"web-1:7950", "192.0.2.2:7950"}, disk: &disk{}}
	l.restart(l.join...)
	l.do(l.Connect, "192.0.2.9", "192.0.2.9:7950 is a peer now")
	l.do(l.Connect, "192.0.2.9:7950", "already")
	l.do(l.Connect, "web-1", "already")
	l.do(l.Connect, "dns+peers.example", "is a peer now")
	l.do(l.Connect, "nfs://x", "error", "nfs://", "dns+NAME")
	l.do(l.Forget, "192.0.2.2", "192.0.2.2:7950 is forgotten", "WEFT_JOIN")
	l.do(l.Forget, "192.0.2.88", "error", "none of this host's peers", "web-1:7950", "weft host rm")
	l.is("web-1:7950, 192.0.2.2:7950 forgotten, 192.0.2.9:7950 connected, dns+peers.example connected")
	if got := fmt.Sprint(l.Addrs(canceled())); got != "[192.0.2.9:7950]" {
		t.Errorf("it looks at %s", got)
	}
	l.do(l.Connect, "192.0.2.2", "a peer again")
	l.do(l.Forget, "dns+peers.example", "is forgotten")
	l.do(l.Forget, "web-1", "is forgotten")
	l.is("web-1:7950 forgotten, 192.0.2.2:7950, 192.0.2.9:7950 connected")

	// Out of WEFT_JOIN and in again, it is not forgotten any more; in it, it is not connected.
	l.restart("192.0.2.9:7950")
	l.restart(l.join...)
	l.is("web-1:7950, 192.0.2.2:7950")
	for n := range 64 {
		l.do(l.Connect, fmt.Sprintf("192.0.2.%d", n+100), "is a peer now")
	}
	l.do(l.Connect, "192.0.2.99", "error", "64 peers", "weft forget")
	if l.None() || !open(t, discover.Config{}).None() {
		t.Error("whether there are peers")
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestWhatIsKeptMustBeReadable(t *testing.T) {
	_, err := discover.Open(discover.Config{Self: self, Disk: &disk{map[string][]byte{"changes": []byte("{")}}})
	if err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("got %v", err)
	}
	bad := discover.Config{Join: []string{"a:b:c"}}
	if addrs, errs := found(t, bad); addrs != "" || !strings.Contains(errs, "a:b:c") {
		t.Errorf("an entry that cannot be read gave %q and %q", addrs, errs)
	}
}
