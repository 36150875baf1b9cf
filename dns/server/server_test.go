package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/weftnet/weft/dns/takeover"
	"github.com/weftnet/weft/dns/takeover/takeovertest"
	"github.com/weftnet/weft/netns"
)

// What the servers answer to any question.
const (
	ours    = "192.0.2.2"
	dockers = "192.0.2.1"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names answers names in weft.local and those without a dot.
func names(query *mdns.Msg) *mdns.Msg {
	name := query.Question[0].Name
	if mdns.CountLabel(name) > 1 && !mdns.IsSubDomain("weft.local.", name) {
		return nil
	}
	return takeovertest.Always(ours)(query)
}

func config(zones *Zones) Config {
	return Config{Answer: names, Domain: "weft.local", Zones: zones, Log: slog.New(slog.DiscardHandler)}
}

// host is a server without a container.
func host(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), cfg)
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func (s *Server) dial(t testing.TB, network string) net.Conn {
	t.Helper()
	at := s.packets.LocalAddr()
	if network == "tcp" {
		at = s.accepts.Addr()
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), network, at.String())
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// take makes a server that has taken over in a namespace.
func take(t testing.TB, ns *netns.Namespace, cfg Config) *Server {
	t.Helper()
	s, err := Serve(ns, cfg)
	check(t, err)
	udp, tcp := s.Ports()
	taken, err := takeover.Install(ns, udp, tcp)
	check(t, err)
	t.Cleanup(func() {
		check(t, taken.Close())
		check(t, s.Close())
	})
	return s
}

func wantAnswer(t testing.TB, conn net.Conn, name, want string) {
	t.Helper()
	if got, err := takeovertest.Ask(conn, name); err != nil || got != want {
		t.Errorf("%s over %s: %q (%v), want %s", name, conn.LocalAddr().Network(), got, err, want)
	}
}

func TestIntegrationOursAndDockers(t *testing.T) {
	c := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	take(t, c.NS, config(nil))
	for _, network := range []string{"udp4", "tcp4"} {
		conn := c.Dial(t, network, 0)
		for range 20 { // more than there are sockets at first
			wantAnswer(t, conn, "db.", ours)
			wantAnswer(t, conn, "db.weft.local.", ours)
			wantAnswer(t, conn, "example.com.", dockers)
		}
	}
}

// conntrack would send the packets of a known source port to the ports of the resolver that is
// gone.
func TestIntegrationDockersResolverGetsOtherPorts(t *testing.T) {
	for _, rules := range []takeovertest.Rules{takeovertest.NFTables, takeovertest.IPTablesLegacy} {
		t.Run(string(rules), func(t *testing.T) {
			c := takeovertest.New(t, rules, takeovertest.Always(dockers))
			take(t, c.NS, config(nil))
			conn := c.Dial(t, "udp4", 0)
			for range 10 {
				wantAnswer(t, conn, "example.com.", dockers)
			}
			c.StartDocker(t, takeovertest.Always("192.0.2.3"))
			for range 10 {
				wantAnswer(t, conn, "example.com.", "192.0.2.3")
			}
			c.Docker.Close()
			wantAnswer(t, conn, "example.com.", "SERVFAIL")
		})
	}
}

func TestIntegrationServeBeforeLoopbackIsUp(t *testing.T) {
	ns := takeovertest.NewNamespace(t)
	take(t, ns, config(nil))
	c := takeovertest.Start(t, ns, takeovertest.NFTables, takeovertest.Always(dockers))
	wantAnswer(t, c.Dial(t, "udp4", 0), "db.", ours)
	wantAnswer(t, c.Dial(t, "tcp4", 0), "db.", ours)
	wantAnswer(t, c.Dial(t, "udp4", 0), "example.com.", dockers)
}

func TestIntegrationForwardedQueriesAreBounded(t *testing.T) {
	var asked atomic.Int32
	stop := make(chan struct{})
	c := takeovertest.New(t, takeovertest.NFTables, func(*mdns.Msg) *mdns.Msg {
		asked.Add(1)
		<-stop
		return nil
	})
	defer close(stop)
	s := take(t, c.NS, config(nil))
	silent := c.Dial(t, "udp4", 0)
	query := new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA)
	bytes, err := query.Pack()
	check(t, err)
	for len(s.forwarded) < maxForwarded {
		_, err := silent.Write(bytes)
		check(t, err)
		runtime.Gosched()
	}
	started := time.Now()
	wantAnswer(t, c.Dial(t, "udp4", 0), "example.com.", "SERVFAIL")
	wantAnswer(t, c.Dial(t, "tcp4", 0), "example.com.", "SERVFAIL")
	wantAnswer(t, c.Dial(t, "udp4", 0), "db.", ours)
	if took := time.Since(started); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if n := asked.Load(); n > maxForwarded {
		t.Errorf("Docker's resolver was asked %d times", n)
	}
}

// Queries that arrive together need more sockets than are open.
func TestIntegrationManyAreForwardedAtOnce(t *testing.T) {
	c := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	take(t, c.NS, config(nil))
	var conns []net.Conn
	for range maxForwarded {
		conns = append(conns, c.Unconnected(t))
	}
	for range 3 {
		var all sync.WaitGroup
		for _, conn := range conns {
			all.Go(func() { wantAnswer(t, conn, "example.com.", dockers) })
		}
		all.Wait()
	}
}

// A client that opens connections and says nothing.
func TestIntegrationManyConnections(t *testing.T) {
	one := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	other := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	s := take(t, one.NS, config(nil))
	take(t, other.NS, config(nil))
	for range 10 {
		one.Do(t, func() error {
			for range 100 {
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp4", takeovertest.Address)
				if err != nil {
					return err
				}
				t.Cleanup(func() { _ = conn.Close() })
			}
			return nil
		})
		wantAnswer(t, one.Dial(t, "udp4", 0), "db.", ours)
		wantAnswer(t, one.Dial(t, "tcp4", 0), "db.", ours)
	}
	wantAnswer(t, one.Dial(t, "udp4", 0), "example.com.", dockers)
	wantAnswer(t, one.Dial(t, "tcp4", 0), "example.com.", dockers)
	wantAnswer(t, other.Dial(t, "tcp4", 0), "db.", ours)
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	if n := len(s.conns.all); n > maxConns {
		t.Errorf("%d connections, want at most %d", n, maxConns)
	}
}

// A container that sends as fast as it can, queries of ours and of Docker's, delays another's
// by some milliseconds and loses none of them.
func TestIntegrationAFloodStarvesNobody(t *testing.T) {
	flooding := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	other := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	take(t, flooding.NS, config(nil))
	take(t, other.NS, config(nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, name := range []string{"db.", "example.com."} {
		query, err := new(mdns.Msg).SetQuestion(name, mdns.TypeA).Pack()
		check(t, err)
		conn := flooding.Dial(t, "udp4", 0)
		go func() {
			for ctx.Err() == nil {
				_, _ = conn.Write(query) // ends with ctx
			}
		}()
	}
	conn := other.Dial(t, "udp4", 0)
	took := make([]time.Duration, 200)
	for i := range took {
		started := time.Now()
		if i%2 == 0 {
			wantAnswer(t, conn, "db.", ours)
		} else {
			wantAnswer(t, conn, "example.com.", dockers)
		}
		took[i] = time.Since(started)
	}
	slices.Sort(took)
	most := took[len(took)*95/100] // a busy machine makes any single one wait
	t.Logf("the longest took %s, 95 of 100 at most %s", took[len(took)-1], most)
	if most > 500*time.Millisecond {
		t.Errorf("one in twenty answers took %s and more", most)
	}
}

func TestListenRefusesOtherNames(t *testing.T) {
	s := host(t, config(nil))
	for _, network := range []string{"udp", "tcp"} {
		wantAnswer(t, s.dial(t, network), "db.", ours)
		wantAnswer(t, s.dial(t, network), "example.com.", "REFUSED")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), config(NewZones(map[string][]netip.AddrPort{"consul": {silent(t)}})))
	check(t, err)
	for _, network := range []string{"udp", "tcp"} {
		conn := s.dial(t, network)
		wantAnswer(t, conn, "db.", ours)
		check(t, (&mdns.Conn{Conn: conn}).WriteMsg(new(mdns.Msg).SetQuestion("web.consul.", mdns.TypeA)))
	}
	for len(s.forwarded) < 2 {
		runtime.Gosched()
	}
	started := time.Now()
	check(t, s.Close())
	if took := time.Since(started); took > time.Second/2 {
		t.Errorf("Close took %s", took)
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			buffer := make([]byte, 1<<16)
			t.Fatalf("goroutines: %d, before: %d\n%s", runtime.NumGoroutine(), before, buffer[:runtime.Stack(buffer, true)])
		}
	}
}

// silent is a server that takes queries, and connections, and says nothing.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	accepts, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	check(t, err)
	packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", accepts.Addr().String())
	check(t, err)
	t.Cleanup(func() {
		check(t, accepts.Close())
		check(t, packets.Close())
	})
	return netip.MustParseAddrPort(accepts.Addr().String())
}

// large answers with n addresses.
func large(n int) func(*mdns.Msg) *mdns.Msg {
	return func(query *mdns.Msg) *mdns.Msg {
		reply := new(mdns.Msg).SetReply(query)
		for i := range n {
			rr, err := mdns.NewRR(fmt.Sprintf("%s 5 IN A 10.32.%d.%d", query.Question[0].Name, i/256, i%256))
			if err != nil {
				panic(err)
			}
			reply.Answer = append(reply.Answer, rr)
		}
		return reply
	}
}

func TestRepliesFitTheClient(t *testing.T) {
	for _, tt := range []struct {
		network         string
		answers         int
		offer           uint16 // 0 = no EDNS0
		most            int
		truncated, edns bool
	}{
		{"udp", 2, 0, 512, false, false},
		{"udp", 60, 0, 512, true, false},
		{"udp", 60, 100, 512, true, true},
		{"udp", 60, 1232, 1232, false, true},
		{"udp", 60, 4096, 1232, false, true},
		{"udp", 200, 4096, 1232, true, true},
		{"tcp", 2000, 0, mdns.MaxMsgSize, false, false},
		{"tcp", 2000, 512, mdns.MaxMsgSize, false, true},
		{"tcp", 10000, 0, mdns.MaxMsgSize, true, false}, // the most that DNS can say
	} {
		cfg := config(nil)
		cfg.Answer = large(tt.answers)
		query := new(mdns.Msg).SetQuestion("db.", mdns.TypeA)
		if tt.offer > 0 {
			query.SetEdns0(tt.offer, false)
		}
		reply, err := takeovertest.Exchange(host(t, cfg).dial(t, tt.network), query)
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		reply.Compress = true
		if reply.Len() > tt.most || reply.Truncated != tt.truncated || (reply.IsEdns0() != nil) != tt.edns {
			t.Errorf("%+v: %d bytes, truncated %v, EDNS0 %v", tt, reply.Len(), reply.Truncated, reply.IsEdns0())
		}
		if !tt.truncated && len(reply.Answer) != tt.answers {
			t.Errorf("%+v: %d answers", tt, len(reply.Answer))
		}
	}
}

// Names under our domain are never a zone's, others first.
func TestZonesComeBetweenTheDomainAndOtherNames(t *testing.T) {
	at := func(addr string) []netip.AddrPort {
		s := host(t, Config{Answer: takeovertest.Always(addr), Log: slog.New(slog.DiscardHandler)})
		udp, _ := s.Ports()
		return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), udp)}
	}
	s := host(t, config(NewZones(map[string][]netip.AddrPort{
		"local": at("192.0.2.10"), "consul": at("192.0.2.11"), "dc2.Consul.": at("192.0.2.12"),
	})))
	conn := s.dial(t, "udp")
	for name, want := range map[string]string{
		"db.": ours, "db.weft.local.": ours, "printer.local.": "192.0.2.10",
		"consul.": "192.0.2.11", "web.service.CONSUL.": "192.0.2.11", "web.dc2.consul.": "192.0.2.12",
		"notconsul.": ours, "consul.example.": "REFUSED",
	} {
		wantAnswer(t, conn, name, want)
	}
	if p := s.cfg.Zones.Problem(); p != "" {
		t.Error(p)
	}
}

func TestAZoneWhoseServerIsDead(t *testing.T) {
	t.Parallel() // waits for the time-out
	at := silent(t)
	zones := NewZones(map[string][]netip.AddrPort{"consul": {at}})
	conn := host(t, config(zones)).dial(t, "udp")
	query := new(mdns.Msg).SetQuestion("web.consul.", mdns.TypeA)
	check(t, (&mdns.Conn{Conn: conn}).WriteMsg(query))
	check(t, conn.SetReadDeadline(time.Now().Add(4*zoneTimeout)))
	if reply, err := (&mdns.Conn{Conn: conn}).ReadMsg(); err != nil || reply.Rcode != mdns.RcodeServerFailure {
		t.Fatalf("%v, %v", reply, err)
	}
	started := time.Now()
	for range 100 {
		wantAnswer(t, conn, "web.consul.", "SERVFAIL")
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("a hundred queries to a dead server took %s", took)
	}
	if p := zones.Problem(); !strings.Contains(p, at.String()) || !strings.Contains(p, "zone consul") {
		t.Errorf("the problem is %q", p)
	}
}
