package discover_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weftnet/weft/discover"
)

func TestConnectAndForget(t *testing.T) {
	d := &disk{}
	join := []string{"web-1:7950", "192.0.2.2:7950"}
	p := open(t, discover.Config{Join: join, Disk: d})
	do := func(change func(context.Context, string) (string, error), entry string, words ...string) {
		t.Helper()
		text, err := change(t.Context(), entry)
		if err != nil {
			text = "error: " + err.Error()
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q does not say %q", entry, text, w)
			}
		}
	}
	entries := func(p *discover.Peers) string {
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
	is := func(want string) {
		t.Helper()
		if got := entries(p); got != want {
			t.Errorf("the peers are %s, want %s", got, want)
		}
		if got := entries(open(t, discover.Config{Join: join, Disk: d})); got != want {
			t.Errorf("after a restart the peers are %s, want %s", got, want)
		}
	}
	do(p.Connect, "192.0.2.9", "192.0.2.9:7950 is a peer now")
	do(p.Connect, "192.0.2.9:7950", "already")
	do(p.Connect, "web-1", "already")
	do(p.Connect, "dns+peers.example", "is a peer now")
	do(p.Connect, "nfs://x", "error", "nfs://", "dns+NAME")
	do(p.Forget, "192.0.2.2", "192.0.2.2:7950 is forgotten", "WEFT_JOIN")
	do(p.Forget, "192.0.2.88", "error", "none of this host's peers", "web-1:7950", "weft host rm")
	is("web-1:7950, 192.0.2.2:7950 forgotten, 192.0.2.9:7950 connected, dns+peers.example connected")
	if got := fmt.Sprint(p.Addrs(canceled())); got != "[192.0.2.9:7950]" {
		t.Errorf("it looks at %s", got)
	}
	do(p.Connect, "192.0.2.2", "a peer again")
	do(p.Forget, "dns+peers.example", "is forgotten")
	do(p.Forget, "web-1", "is forgotten")
	is("web-1:7950 forgotten, 192.0.2.2:7950, 192.0.2.9:7950 connected")

	// Out of WEFT_JOIN and in again, it is not forgotten any more; in it, it is not connected.
	open(t, discover.Config{Join: []string{"192.0.2.9:7950"}, Disk: d})
	p = open(t, discover.Config{Join: join, Disk: d})
	is("web-1:7950, 192.0.2.2:7950")
	for n := range 64 {
		do(p.Connect, fmt.Sprintf("192.0.2.%d", n+100), "is a peer now")
	}
	do(p.Connect, "192.0.2.99", "error", "64 peers", "weft forget")
	if p.None() || !open(t, discover.Config{}).None() {
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
