package orders

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// began is since when the container db is there.
var began = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// bench is orders of a host with the networks overlay and old, which was removed.
type bench struct {
	*Orders
	asked  []state.Command
	silent bool // hosts do not say since when their containers are there
}

func newBench() *bench {
	b := &bench{}
	host := netmap.HostID{1}
	e := netmap.EndpointView{Host: host, Endpoint: netmap.Endpoint{ID: "e", Network: 5, V4: netip.MustParseAddr("10.1.0.2")}}
	e.Names = &netmap.EndpointName{Endpoint: "e", Name: "db", Aliases: []string{"a b"}, Services: []netmap.Service{{Port: 80, Protocol: netmap.TCP}}}
	view := (&netmap.View{
		Hosts: []netmap.HostView{{ID: host, Entry: netmap.HostEntry{ID: host}, Fact: netmap.HostFact{Name: "host-a", Underlay: netip.MustParseAddrPort("192.168.0.1:1")}}},
		Networks: []netmap.Network{
			{ID: 5, Name: "overlay", Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}},
			{ID: 6, Name: "old", Retired: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}},
		},
		StaticNames: []netmap.StaticName{{Network: 5, Name: "nas", Addr: netip.MustParseAddr("192.0.2.7")}},
	}).WithEndpoints(e)
	names := dns.New(dns.Config{})
	names.Apply(view, view.Since(nil))
	b.Orders = New(Config{Names: names, View: func() *netmap.View { return view }, Decide: func(_ context.Context, c state.Command) (state.Reply, error) {
		b.asked = append(b.asked, c)
		return state.Reply{}, nil
	}, AskDocker: func(ctx context.Context, network netmap.NetworkID, query *wire.Msg) (*wire.Msg, error) {
		if network != 5 || query.Question[0].Qtype == wire.TypeAAAA {
			return nil, errors.New("nobody can be asked")
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		reply := new(wire.Msg).SetReply(query)
		reply.Answer = []wire.RR{&wire.A{Hdr: wire.RR_Header{Name: query.Question[0].Name, Rrtype: wire.TypeA, Class: wire.ClassINET, Ttl: 600}, A: net.IPv4(10, 1, 0, 2)}}
		return reply, nil
	}, Since: func(ctx context.Context, host netmap.HostID, network netmap.NetworkID, addr netip.Addr) (time.Time, error) {
		if host != e.Host || network != e.Network || addr != e.V4 {
			return time.Time{}, errors.New("no such endpoint")
		}
		if b.silent {
			<-ctx.Done()
			return time.Time{}, ctx.Err()
		}
		return began, nil
	}})
	return b
}

func TestNamesAreAddedAndRemoved(t *testing.T) {
	b := newBench()
	printer := api.StaticName{Name: "Printer", Network: "overlay", Addr: netip.MustParseAddr("::ffff:192.0.2.9")}
	if text, err := b.AddName(t.Context(), printer); err != nil || text != "printer is 192.0.2.9 on network overlay" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := b.RemoveName(t.Context(), printer); err != nil || text != "printer on network overlay leads to 192.0.2.9 no more" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := b.RemoveName(t.Context(), api.StaticName{Name: "printer", Network: "5"}); err != nil || text != "printer is removed from network overlay" {
		t.Errorf("%q, %v", text, err)
	}
	db := api.StaticName{Name: "db", Network: "overlay", Addr: printer.Addr}
	if text, err := b.AddName(t.Context(), db); err != nil || !strings.HasSuffix(text, "as soon as container db, which has the name too (container name), is gone") {
		t.Errorf("%q, %v", text, err)
	}
	if len(b.asked) != 4 {
		t.Fatalf("the ledger was asked %d times", len(b.asked))
	}
	want := netmap.StaticName{Network: 5, Name: "printer", Addr: netip.MustParseAddr("192.0.2.9")}
	if b.asked[0].Kind != state.KindAddName || b.asked[0].AddName.Name != want || b.asked[1].RemoveName.Name != want || b.asked[2].RemoveName.Name.Addr.IsValid() {
		t.Errorf("the ledger was asked %+v", b.asked)
	}
}

func TestWhatIsRefusedIsNotAsked(t *testing.T) {
	b := newBench()
	nas := netip.MustParseAddr("192.0.2.7")
	for what, r := range map[string]api.StaticName{
		"which name": {Network: "overlay", Addr: nas}, "on which network": {Name: "nas", Addr: nas}, "there is no network back": {Name: "nas", Network: "back", Addr: nas},
		"there is no network old": {Name: "nas", Network: "old", Addr: nas}, "no address": {Name: "nas", Network: "overlay"}, "is no name in DNS": {Name: "a b", Network: "overlay", Addr: nas},
		"would never be answered": {Name: "localhost", Network: "overlay", Addr: nas},
	} {
		if _, err := b.AddName(t.Context(), r); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want %q", r, err, what)
		}
	}
	_, lists := b.ListNames(t.Context(), api.NameQuery{Network: "back"})
	_, lookup := b.LookupName(t.Context(), api.NameQuery{Name: "db", Network: "back"})
	_, empty := b.LookupName(t.Context(), api.NameQuery{})
	for _, err := range []error{lists, lookup, empty} {
		if _, refused := errors.AsType[*netmap.Refusal](err); !refused {
			t.Errorf("not refused: %v", err)
		}
	}
	if len(b.asked) > 0 {
		t.Errorf("the ledger was asked %+v", b.asked)
	}
}

func TestASilentHostDoesNotCostDockersAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.silent = true
		traced, err := b.LookupName(t.Context(), api.NameQuery{Name: "db", Network: "overlay", Trace: true})
		if err != nil || !traced[0].Names[0].Since.IsZero() || !strings.HasPrefix(traced[0].Docker, "NOERROR") {
			t.Errorf("%+v, %v", traced, err)
		}
	})
}

func TestNamesAreListedAndLookedUp(t *testing.T) {
	b := newBench()
	all, err := b.ListNames(t.Context(), api.NameQuery{})
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	if bad := all[0]; bad.Name != "a b" || bad.Passed == "" {
		t.Errorf("a name that DNS cannot carry is listed as %+v", bad)
	}
	if db := all[1]; db.Name != "db" || db.Network != "overlay" || db.Host != "host-a" || db.Container != "db" || db.Source != "container name" || db.Passed != "" {
		t.Errorf("a container is listed as %+v", db)
	}
	if nas := all[2]; nas.Name != "nas" || nas.Source != "added by hand" || nas.Host != "" {
		t.Errorf("a name added by hand is listed as %+v", nas)
	}
	for word, want := range map[string]string{
		"db": "db. 0 IN A 10.1.0.2", "nas.overlay": "nas.overlay. 0 IN A 192.0.2.7", "10.1.0.2": "2.0.1.10.in-addr.arpa. 0 IN PTR db.overlay.weft.local.",
		"_80._tcp.db": "_80._tcp.db. 0 IN SRV 0 0 80 db.overlay.weft.local.", "2.0.1.10.in-addr.arpa.": "2.0.1.10.in-addr.arpa. 0 IN PTR db.overlay.weft.local.",
	} {
		for _, network := range []string{"", "overlay"} {
			answers, err := b.LookupName(t.Context(), api.NameQuery{Name: word, Network: network})
			if err != nil || len(answers[0].Records) == 0 || answers[0].Records[0] != want || len(answers[0].Names) != 1 || answers[0].Names[0].Network != "overlay" {
				t.Errorf("%s: %+v, %v", word, answers, err)
			}
		}
	}
	traced, err := b.LookupName(t.Context(), api.NameQuery{Name: "db", Network: "overlay", Trace: true})
	if err != nil || traced[0].Docker != "NOERROR, db. 600 IN A 10.1.0.2" || traced[1].Docker != "nobody can be asked" {
		t.Errorf("what Docker says: %+v, %v", traced, err)
	}
	if of := traced[0].Names[0].Since; of != began || !traced[1].Names[0].Since.IsZero() {
		t.Errorf("db answers since %s, and for the other type, which it does not have, since %s", of, traced[1].Names[0].Since)
	}
	answers, err := b.LookupName(t.Context(), api.NameQuery{Name: "host-a.hosts.weft.local"})
	if err != nil || answers[0].Names[0].Host != "host-a" || answers[0].Names[0].Network != "" {
		t.Errorf("a host: %+v, %v", answers, err)
	}
}
