package presence

import (
	"testing"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/attach/attachtest"
	"github.com/weftnet/weft/netmap"
)

// TestNetworksThatAreNoMoreAreForgotten: whoever makes a network for each job has thousands a day.
func TestNetworksThatAreNoMoreAreForgotten(t *testing.T) {
	h := attachtest.New()
	own, err := attach.New(attach.Config{Networks: h, Addresses: h, Facts: h, Ports: h, Disk: h})
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{Own: own, MemberOf: func(netmap.Network) bool { return false }})
	for id := range netmap.NetworkID(1000) {
		p.used[id] = time.Now().Add(-linger)
		p.full[id] = fullNetwork{at: time.Now().Add(-fullFor)}
	}
	if out, next := p.wanted(&netmap.View{}); len(out) > 0 || next > 0 || len(p.used)+len(p.full) > 0 {
		t.Errorf("%v, %v; remembered are %d and %d", out, next, len(p.used), len(p.full))
	}
}
