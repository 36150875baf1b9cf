package ipam_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

// frugal grants as many blocks as are asked for, while it has any to give, and notes the
// requests.
type frugal struct {
	*ipamtest.Host
	mu   sync.Mutex
	none bool          // nothing is granted ahead
	late time.Duration // of what is refused ahead
	asks []ipam.BlockRequest
}

func (f *frugal) GrantBlock(ctx context.Context, r ipam.BlockRequest) (blocks []netmap.Block, claims []netmap.Claim, err error) {
	f.mu.Lock()
	f.asks = append(f.asks, r)
	none := f.none && r.Ahead
	f.mu.Unlock()
	if none {
		time.Sleep(f.late)
		return nil, nil, netmap.Refuse(netmap.Exhausted, "no block is given ahead")
	}
	for range r.Count {
		b, _, err := f.Host.GrantBlock(ctx, ipam.BlockRequest{Subnet: r.Subnet, Within: r.Within})
		if err != nil {
			return nil, nil, err
		}
		blocks = append(blocks, b...)
	}
	return blocks, nil, nil
}

func (f *frugal) requests() []ipam.BlockRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asks)
}

// TestAHostAsksForSeveralSmallBlocks: 64 addresses at once, and more of them before the last
// quarter is used up, which it says.
func TestAHostAsksForSeveralSmallBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r := start(t, l, "one")
		ledger := &frugal{Host: r.host}
		r.through(ledger)
		id := r.network("10.40.0.0/20", "") // blocks of four
		held := map[string]bool{}
		for range 60 {
			if a := r.get(id, ""); held[a] {
				t.Fatalf("%s is held twice", a)
			} else {
				held[a] = true
			}
		}
		synctest.Wait()
		for n, want := range []ipam.BlockRequest{{Ahead: false}, {Ahead: true}} {
			want.Subnet, want.Within, want.Count = netip.MustParsePrefix("10.40.0.0/20"), netip.MustParsePrefix("10.40.0.0/20"), 16
			want.Have = n == 0 // the disk does not say whether an earlier request was answered
			if got := ledger.requests(); len(got) != 2 || got[n] != want {
				t.Errorf("request %d is %+v, want %+v", n, got, want)
			}
		}
	})
}

// TestARefusalAheadIsNoRefusal: a container that needs an address gets it all the same, also when it
// waits for the answer to what was asked for ahead.
func TestARefusalAheadIsNoRefusal(t *testing.T) {
	for _, late := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			l := ipamtest.NewLedger()
			r := start(t, l, "one")
			ledger := &frugal{Host: r.host, none: true, late: late}
			r.through(ledger)
			id := r.network("10.40.0.0/20", "")
			held := map[string]bool{}
			for range 200 {
				if a := r.get(id, ""); held[a] {
					t.Fatalf("%s is held twice", a)
				} else {
					held[a] = true
				}
			}
			synctest.Wait()
			needed := 0
			for _, q := range ledger.requests() {
				if !q.Ahead {
					needed++
				}
			}
			if needed != 4 {
				t.Errorf("%d requests in need for 200 addresses: %s", needed, fmt.Sprint(ledger.requests()))
			}
		})
	}
}
