package plugin

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

// TestInventedHostsAreFewProblems: the last that were refused are told of, and how many
// there are.
func TestInventedHostsAreFewProblems(t *testing.T) {
	var all []gossip.Refused
	for i := range 200 {
		all = append(all, gossip.Refused{Text: fmt.Sprintf("host %d", i), Last: time.Unix(int64(1000+i), 0)})
	}
	got := refused(all)
	if len(got) != maxRefused+1 || got[0] != "host 199" || !strings.Contains(got[maxRefused], "195 hosts more") {
		t.Errorf("%q", got)
	}
	if got := refused(all[:2]); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestInventedClonesAreFewProblems(t *testing.T) {
	a := &Agent{clones: map[netmap.HostID]time.Time{}, problems: map[string]string{}, log: slog.New(slog.DiscardHandler), self: netmap.HostID{1}}
	for i := range 200 {
		at := gossip.Member{Addr: netip.MustParseAddrPort("192.0.2.1:7950")}
		a.foundClone(gossip.Clone{Host: netmap.HostID{2, byte(i)}, A: at, B: at})
	}
	if len(a.clones) != maxClones || len(a.problems) != maxClones {
		t.Errorf("%d clones are %d problems, want %d", len(a.clones), len(a.problems), maxClones)
	}
}
