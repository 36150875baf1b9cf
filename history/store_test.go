package history

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	disk "github.com/weftnet/weft/store"
)

func storeIn(t *testing.T, s *disk.Store, there ...netmap.EndpointID) *store {
	t.Helper()
	d, err := open(s.Bucket("history"), func(id netmap.EndpointID) bool { return slices.Contains(there, id) })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func endpointOf(n int) netmap.Endpoint {
	return netmap.Endpoint{
		ID: netmap.EndpointID(fmt.Sprintf("%064x", n)), Name: fmt.Sprintf("c%d", n), Network: 7,
		V4: netip.AddrFrom4([4]byte{10, 40, byte(n >> 8), byte(n)}), V6: netip.MustParseAddr(fmt.Sprintf("fd40::%x", n)),
	}
}

// asked are the names that a store answers, and until when it forgot.
func (d *store) asked(t *testing.T, q state.Query) (names []string, forgot time.Time) {
	t.Helper()
	got, err := d.find(q)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Entries {
		names = append(names, e.Name)
	}
	return names, clock(got.Forgot)
}

// fill has endpoints 1 to newest begin and end, each after an hour, and returns when they ended.
func (d *store) fill(t *testing.T, newest int) []time.Time {
	t.Helper()
	ends := []time.Time{{}}
	for n := 1; n <= newest; n++ {
		d.began(endpointOf(n))
		time.Sleep(time.Hour)
		d.ended(endpointOf(n).ID)
		ends = append(ends, time.Now().Truncate(time.Millisecond))
		if n%7 == 0 {
			if err := d.write(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return ends
}

// TestTheStoreDropsTheOldestEnds and says so; what is there stays whatever its age, and a
// restart changes nothing.
func TestTheStoreDropsTheOldestEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := disk.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		d := storeIn(t, s)
		d.most = 3
		d.began(endpointOf(0))
		const oldest, newest = 2*pageEntries + 1, 4*pageEntries + 9 // in pages 3 to 5
		ends, want := d.fill(t, newest), []string{"c0"}
		for n := oldest; n <= newest; n++ {
			want = append(want, endpointOf(n).Name)
		}
		check := func(when string) {
			t.Helper()
			names, forgot := d.asked(t, state.Query{})
			if diff := cmp.Diff(want, names); diff != "" || !forgot.Equal(ends[oldest]) {
				t.Errorf("%s it forgot until %v, want %v; (-want +got):\n%s", when, forgot, ends[oldest], diff)
			}
		}
		check("at first")
		for n, want := range map[int][]string{0: {"c0"}, oldest - 1: nil, oldest: {endpointOf(oldest).Name}, newest: {endpointOf(newest).Name}} {
			for _, a := range []netip.Addr{endpointOf(n).V4, endpointOf(n).V6} {
				if names, _ := d.asked(t, state.Query{Space: netmap.Single(a)}); !cmp.Equal(want, names) {
					t.Errorf("%s was of %q, want %q", a, names, want)
				}
			}
		}
		names, forgot := d.asked(t, state.Query{Since: ends[newest-1].UnixMilli()})
		if !cmp.Equal([]string{"c0", endpointOf(newest - 1).Name, endpointOf(newest).Name}, names) || !forgot.IsZero() {
			t.Errorf("since the last end but one there were %q; it forgot what was until %v", names, forgot)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = disk.Open(dir); err != nil {
			t.Fatal(err)
		}
		d = storeIn(t, s, endpointOf(0).ID)
		d.most = 3
		check("after a restart")
		d = storeIn(t, s) // it ended while no agent ran
		if _, there := d.open[endpointOf(0).ID]; there {
			t.Error("what is gone counts as there")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTheStoreOfTwoBusyDays: a host that starts a hundred containers a minute answers for
// yesterday, in time and within its bound on disk.
func TestTheStoreOfTwoBusyDays(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300,000 entries")
	}
	dir := t.TempDir()
	s, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	d := storeIn(t, s)
	const starts = mostPages*pageEntries + 1000
	for n := range starts {
		e := endpointOf(n % 50000)
		e.ID, e.Name = netmap.EndpointID(fmt.Sprintf("%064x", n)), fmt.Sprintf("service-web-%d", n)
		d.began(e)
		d.ended(e.ID)
		if n%2000 == 0 {
			if err := d.write(); err != nil {
				t.Fatal(err)
			}
		}
	}
	began := time.Now()
	names, _ := d.asked(t, state.Query{Space: netmap.Single(endpointOf(77).V4)})
	took := time.Since(began)
	if len(names) != 6 || names[0] != "service-web-50077" {
		t.Errorf("of six that had the address and are not forgotten it knows %q", names)
	}
	if took > askHosts {
		t.Errorf("the answer took %v, who asks waits %v", took, askHosts)
	}
	info, err := os.Stat(filepath.Join(dir, disk.FileName))
	if err != nil || info.Size() > 100<<20 {
		t.Errorf("the state file has %d bytes (%v)", info.Size(), err)
	}
	t.Logf("%d ends and more in %d MB; an answer takes %v", (d.last-d.first)*pageEntries, info.Size()>>20, took)
}
