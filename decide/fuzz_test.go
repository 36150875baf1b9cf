package decide

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/history"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/rpc"
)

// bucket is a part of a store in memory.
type bucket struct{ *ipamtest.Disk }

func (b bucket) ScanReverse(prefix string, visit func(key string, value []byte) bool) error {
	all, err := b.Load()
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		if strings.HasPrefix(key, prefix) && !visit(key, all[key]) {
			break
		}
	}
	return err
}

// stocked is the disk of a host that has a block, one address of it in use.
func stocked(f *testing.F, at ipam.Decisions) *ipamtest.Disk {
	f.Helper()
	disk := ipamtest.NewDisk()
	i, err := ipam.New(ipam.Config{Decisions: at, Disk: disk})
	if err != nil {
		f.Fatal(err)
	}
	defer i.Close()
	docker := rpc.New(rpc.Config{Routes: i.Routes()})
	call := func(method, body string) {
		w := httptest.NewRecorder()
		docker.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/IpamDriver."+method, strings.NewReader(body)))
		if w.Code != http.StatusOK {
			f.Fatalf("%s: %s", method, w.Body)
		}
	}
	call("RequestPool", `{"AddressSpace":"weft","Pool":"10.40.0.0/24"}`)
	if err := i.NetworkCreated(f.Context(), "n", []netip.Prefix{netip.MustParsePrefix("10.40.0.0/24")}, ipam.BlockBits{}); err != nil {
		f.Fatal(err)
	}
	call("RequestAddress", `{"PoolID":"weft:10.40.0.0/24"}`)
	return disk
}

// FuzzRequests: whatever another host asks of this one, the answer can be read or is an
// error with a text, and the disk can be opened again.
func FuzzRequests(f *testing.F) {
	cluster := ipamtest.NewLedger()
	here, there := cluster.Host("here"), cluster.Host("there")
	subnet, addr := netip.MustParsePrefix("10.40.0.0/24"), netip.MustParseAddr("10.40.0.5")
	for i, q := range []any{
		cedeQuestion{Owner: here.ID(), Subnet: subnet, Addr: addr, To: there.ID()},
		donateQuestion{Subnet: subnet, Within: subnet, To: there.ID()},
		state.Query{Space: subnet, Host: here.ID(), Since: 1, Until: 1 << 50, Limit: 3},
		struct{}{},
	} {
		body, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), body)
		f.Add(uint8(i), []byte("null"))
	}
	disk := stocked(f, here)
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		d := &Decider{cfg: Config{Self: here.ID()}}
		copied := disk.Copy()
		own, err := ipam.New(ipam.Config{Decisions: here, Disk: copied})
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		d.ipam = own
		past, err := history.Open(history.Config{Self: here.ID(), Disk: bucket{ipamtest.NewDisk()}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		serve := []func(context.Context, netip.AddrPort, []byte) ([]byte, error){d.serveCede, d.serveDonate, past.Serve}
		answer, err := serve[int(which)%len(serve)](ctx, netip.AddrPort{}, body)
		if err == nil && !json.Valid(answer) || err != nil && err.Error() == "" {
			t.Errorf("%d %q: %q, %v", which, body, answer, err)
		}
		again, err := ipam.New(ipam.Config{Decisions: here, Disk: copied.Copy()})
		if err != nil {
			t.Fatalf("%d %q: then the disk cannot be opened: %v", which, body, err)
		}
		again.Close()
	})
}
