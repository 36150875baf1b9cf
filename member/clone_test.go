package member

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

// TestInventedClonesAreFewProblems: anybody can say that two agents use one identity.
func TestInventedClonesAreFewProblems(t *testing.T) {
	problems := map[string]string{}
	m := &Member{
		cfg:    Config{Problem: func(topic, sentence string) { problems[topic] = sentence }},
		clones: map[netmap.HostID]time.Time{}, self: netmap.HostID{1},
	}
	for i := range 200 {
		at := gossip.Member{Addr: netip.MustParseAddrPort("192.0.2.1:7950")}
		m.foundClone(gossip.Clone{Host: netmap.HostID{2, byte(i)}, A: at, B: at})
	}
	if len(m.clones) != maxClones || len(problems) != maxClones {
		t.Errorf("%d clones are %d problems, want %d", len(m.clones), len(problems), maxClones)
	}
}
