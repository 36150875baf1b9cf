package api_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

func sample() *api.Report {
	a, b := netmap.HostID{0xa1}, netmap.HostID{0xb2}
	used := uint64(1)
	return &api.Report{
		Version: "0.1.0", Level: 2, Cluster: netmap.ClusterID{0xc3}, Self: a, Name: "host1", State: "ready",
		Problems: []string{"keeper host2 does not answer"},
		Hosts: []api.Host{
			{ID: a, Name: "host1", Underlay: netip.MustParseAddrPort("10.99.0.1:7950"), State: "alive", Keeper: true, Version: "0.1.0", Level: 2},
			{ID: b, Name: "host2", Underlay: netip.MustParseAddrPort("[fd99::2]:7950"), State: "unreachable", Level: 1},
		},
		Ledger: api.Ledger{Level: 1, Role: "leader", Leader: a, Keepers: []netmap.HostID{a}, Decided: 12},
		Ranges: []api.RangeUse{{Prefix: netip.MustParsePrefix("10.32.0.0/12"), Subnets: 1}, {Prefix: netip.MustParsePrefix("fd00:1::/48")}},
		Peers: []api.Peer{
			{Peer: "mesos+http://leader.mesos:5050", From: "WEFT_JOIN", Alive: 2, Error: "connection refused", Addrs: []netip.AddrPort{
				netip.MustParseAddrPort("10.99.0.1:7950"), netip.MustParseAddrPort("10.99.0.2:7950"), netip.MustParseAddrPort("10.99.0.3:7950"),
				netip.MustParseAddrPort("10.99.0.4:7950"), netip.MustParseAddrPort("10.99.0.5:7950"),
			}},
			{Peer: "web-1:7950", From: "WEFT_JOIN", Forgotten: true},
			{Peer: "gone:7950", From: "weft connect"},
		},
		Networks: []api.Network{{
			ID: 7, Name: "overlay", VNI: netmap.FirstVNI, MTU: 1450, Retired: true,
			Subnets: []api.Subnet{{
				Prefix: netip.MustParsePrefix("10.32.0.0/20"), Gateway: netip.MustParseAddr("10.32.0.1"),
				Blocks: []api.Block{{Prefix: netip.MustParsePrefix("10.32.0.0/26"), Owner: a, Used: &used}, {Prefix: netip.MustParsePrefix("10.32.0.64/26"), Owner: b}},
				Shares: []api.Share{{Host: a, Blocks: 1, Used: 1, Free: 61}, {Host: b, Blocks: 1, Claims: 1, Used: 1, Free: 64}},
				Claims: []api.Claim{{Addr: netip.MustParseAddr("10.32.3.3"), Owner: b}},
			}},
			Endpoints: []api.Endpoint{{ID: "0123456789abcdef", Name: "web", Host: b, V4: netip.MustParseAddr("10.32.0.66"), MAC: netmap.MACOf(netip.MustParseAddr("10.32.0.66"))}},
			Disputes: []api.Dispute{{
				Addr:   netip.MustParseAddr("10.32.0.66"),
				Winner: api.Endpoint{ID: "0123456789abcdef", Name: "web", Host: b}, Loser: api.Endpoint{ID: "fedcba9876543210", Host: a},
			}},
		}},
	}
}

const sampleText = `weft 0.1.0 on host1 (a1000000)
cluster  c3000000000000000000000000000000  ready
ledger   leader                            keepers host1, leader host1, decided 12
level    feature level 1 of 2: host2 runs an older release
ranges   10.32.0.0/12 (1 used), then fd00:1::/48 (0 used)
PROBLEM  keeper host2 does not answer

HOST   ID        UNDERLAY        STATE        KEEPER  VERSION
host1  a1000000  10.99.0.1:7950  alive        yes     0.1.0
host2  b2000000  [fd99::2]:7950  unreachable          

PEER                            FROM          ALIVE   ADDRESSES
mesos+http://leader.mesos:5050  WEFT_JOIN     2 of 5  10.99.0.1:7950 10.99.0.2:7950 10.99.0.3:7950 10.99.0.4:7950 … (connection refused)
web-1:7950                      WEFT_JOIN     0 of 0  forgotten
gone:7950                       weft connect  0 of 0  none

NETWORK overlay        vni 1048576  id 7  removed by a user, is deleted with its last container
  subnet 10.32.0.0/20  gateway 10.32.0.1
  share                host1  1 used, 61 free, blocks 1, single 0
  share                host2  1 used, 64 free, blocks 1, single 1
  block 10.32.0.0/26   host1  1 used
  block 10.32.0.64/26  host2  
  address 10.32.3.3    host2
  DISPUTE 10.32.0.66   host2  web has it, fedcba987654 on host1 is off the network until one of them is stopped
  ADDRESS              HOST   CONTAINER  MAC
  10.32.0.66           host2  web        02:57:0a:20:00:42
`

func TestTextIsForPeople(t *testing.T) {
	var b strings.Builder
	if err := api.Text(&b, sample()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleText, b.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestOlderReleasesAreNamedUpToANumber(t *testing.T) {
	r := sample()
	r.Hosts[1].Level = 2
	level := func() string {
		var b strings.Builder
		if err := api.Text(&b, r); err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(b.String(), "feature level ")
		line, _, _ = strings.Cut(line, "\n")
		return line
	}
	r.Ledger.Level = 2
	r.Hosts = append(r.Hosts, api.Host{Name: "gone", ID: netmap.HostID{1}, State: "removed", Level: 1}, api.Host{Name: "newcomer", ID: netmap.HostID{2}})
	if got := level(); got != "2" {
		t.Errorf("feature level %s", got)
	}
	r.Ledger.Level = 1
	for i := range 10 {
		r.Hosts = append(r.Hosts, api.Host{Name: "old" + string(rune('0'+i)), ID: netmap.HostID{9, byte(i)}, State: "alive", Level: 1})
	}
	if got := level(); got != "1 of 2: old0, old1, old2, old3, old4, old5, old6, old7, 2 more run an older release" {
		t.Errorf("feature level %s", got)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("pipe closed") }

func TestRangesAreListedInTheirOrder(t *testing.T) {
	var b strings.Builder
	if err := api.Ranges(&b, sample().Ranges); err != nil {
		t.Fatal(err)
	}
	want := "RANGE         SUBNETS\n10.32.0.0/12  1\nfd00:1::/48   0\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if err := api.Ranges(brokenWriter{}, sample().Ranges); err == nil {
		t.Error("no error from a writer that fails")
	}
}

func TestTextTellsThatItsWriterFailed(t *testing.T) {
	if err := api.Text(brokenWriter{}, sample()); err == nil {
		t.Error("no error from a writer that fails")
	}
}

func TestSocketCarriesTheWholeReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, path, &agent{}) }()
	got, err := fetchSoon(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve ended with %v", err)
	}
}

// fetchSoon asks until the server listens, for 5 s at most.
func fetchSoon(t *testing.T, path string) (*api.Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		r, err := api.At(path).Report(ctx)
		if err == nil || ctx.Err() != nil {
			return r, err
		}
	}
}

func TestSocketOfADeadAgentIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	for range 2 { // the second one finds the socket of the first
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- api.Serve(ctx, path, &agent{}) }()
		if _, err := fetchSoon(t, path); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-served
	}
}

func TestFetchSaysThatNoAgentAnswers(t *testing.T) {
	_, err := api.At(filepath.Join(t.TempDir(), "none.sock")).Report(t.Context())
	if !errors.Is(err, api.ErrNoAgent) || !strings.Contains(err.Error(), "docker plugin ls") {
		t.Errorf("got %v, want ErrNoAgent with what to do", err)
	}
}

func TestHostsAreToldApart(t *testing.T) {
	r := &api.Report{Hosts: []api.Host{
		{ID: netmap.HostID{0xa1}, Name: "web", State: "alive"},
		{ID: netmap.HostID{0xb2}, Name: "web", State: "unreachable"},
		{ID: netmap.HostID{0xc3}, Name: "db", State: "alive"},
		{ID: netmap.HostID{0xd4}, Name: "db", State: "removed"},
		{ID: netmap.HostID{0xe5}, State: "alive"},
	}}
	for id, want := range map[netmap.HostID]string{
		{0xa1}: "web(a1000000)", {0xb2}: "web(b2000000)", {0xc3}: "db", {0xd4}: "db(d4000000,removed)",
		{0xe5}: "e5000000", {0xf6}: "f6000000", {}: "nobody",
	} {
		if got := r.HostName(id); got != want {
			t.Errorf("%s is shown as %q, want %q", id.Short(), got, want)
		}
	}
}
