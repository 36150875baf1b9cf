package gossip

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/netmap"
)

// TestInventedStartsAreFew: of a host that the ledger knows, and of this one, so many come in;
// when they are found dead, the next ones do.
func TestInventedStartsAreFew(t *testing.T) {
	g := &Gossip{cfg: Config{Host: netmap.HostID{9}}}
	known := map[netmap.HostID]struct{}{{1}: {}}
	dead := func(string) bool { return false }
	g.strangers.prune(time.Now(), known, dead)
	come := func(host netmap.HostID, name string, from uint64) (in int) {
		for n := from; n < from+20_000; n++ {
			m := meta{Host: host, Start: 1, Nonce: n << 40}
			if name == "" {
				name = nodeName(host, m.Nonce)
			}
			switch err := g.admits(&memberlist.Node{Name: name, Meta: m.encode()}); {
			case err == nil:
				in++
			case !errors.Is(err, errRestless):
				t.Fatal(err)
			}
			name = ""
		}
		return in
	}
	for _, host := range []netmap.HostID{{1}, {9}} {
		if n := come(host, "", 0); n != maxStarts {
			t.Errorf("%d starts of host %s are in, want %d", n, host.Short(), maxStarts)
		}
	}
	g.strangers.prune(time.Now().Add(2*ghostTime), known, dead)
	if n := come(netmap.HostID{1}, "", 1<<20); n != maxStarts {
		t.Errorf("later %d starts are in, want %d", n, maxStarts)
	}
	m := meta{Host: netmap.HostID{2}, Start: 1}
	if err := g.admits(&memberlist.Node{Name: "any", Meta: m.encode()}); !errors.Is(err, errUnsent) {
		t.Errorf("under a name that no start has: %v", err)
	}
}
