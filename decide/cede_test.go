package decide

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/netmap"
)

// askedAbout are the endpoints of a host that has none, and counts the questions.
type askedAbout struct{ questions int }

func (a *askedAbout) Endpoint(netmap.EndpointID) (attach.EndpointRecord, bool) {
	a.questions++
	return attach.EndpointRecord{}, false
}

func (a *askedAbout) Endpoints() []attach.EndpointRecord { return nil }

// TestTheHolderIsLookedForAtTheOwner: who holds an address is found among the endpoints of the host that owns it,
// however many others there are.
func TestTheHolderIsLookedForAtTheOwner(t *testing.T) {
	const hosts, each = 100, 10
	var view netmap.View
	var all []netmap.EndpointView
	for h := range hosts {
		id := netmap.HostID{1, byte(h)}
		view.Blocks = append(view.Blocks, netmap.Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40, byte(h)}), 24), Owner: id})
		for i := range each {
			at := netip.AddrFrom4([4]byte{10, 40, byte(h), byte(1 + i)})
			all = append(all, netmap.EndpointView{Host: id, Endpoint: netmap.Endpoint{ID: netmap.EndpointID(fmt.Sprint(at)), Network: 1, V4: at}})
		}
	}
	claimed := netip.MustParseAddr("10.40.7.200") // which host 90 holds by a claim
	view.Claims = []netmap.Claim{{Addr: claimed, Owner: netmap.HostID{1, 90}}}
	all = append(all, netmap.EndpointView{Host: netmap.HostID{1, 90}, Endpoint: netmap.Endpoint{ID: "claimed", Network: 1, V4: claimed}})
	own := &askedAbout{}
	d := &Decider{own: own}
	v := view.WithEndpoints(all...)
	for addr, host := range map[string]byte{"10.40.50.3": 50, "10.40.7.200": 90} {
		if e, ok := d.heldElsewhere(v, netip.MustParseAddr(addr)); !ok || e.Host != (netmap.HostID{1, host}) {
			t.Errorf("%s is held by %+v, %v", addr, e, ok)
		}
	}
	if e, ok := d.heldElsewhere(v, netip.MustParseAddr("10.40.50.77")); ok {
		t.Errorf("an address that nobody holds is held by %+v", e)
	}
	if own.questions > 3*(each+1) {
		t.Errorf("%d endpoints were looked at, of %d", own.questions, len(all))
	}
}
