package discover_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/weftnet/weft/discover"
)

var self = netip.MustParseAddrPort("192.0.2.1:7950")

// zone is a DNS server with records that a test changes.
type zone struct {
	mu      sync.Mutex
	records []string
	asked   int
}

func (z *zone) set(records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = records
}

func (z *zone) questions() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	m := new(dns.Msg)
	m.SetRcode(r, dns.RcodeNameError)
	for _, text := range z.records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		if strings.EqualFold(rr.Header().Name, r.Question[0].Name) {
			m.Rcode = dns.RcodeSuccess
			if rr.Header().Rrtype == r.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
		m.Truncate(dns.MinMsgSize) // what does not fit is asked for by TCP
	}
	_ = w.WriteMsg(m) // the client has gone
}

// serveZone starts a DNS server and answers it with a resolver that asks it alone.
func serveZone(t *testing.T, records ...string) (*zone, *net.Resolver) {
	t.Helper()
	z := &zone{records: records}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: streams, Handler: z}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }() // until it is shut down
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, packets.LocalAddr().String())
	}}
}

// serveHTTP answers paths with bodies, in the way of Mesos and Marathon.
func serveHTTP(t *testing.T, paths map[string]string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := paths[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			body = `{"message":"App '` + r.URL.Path + `' does not exist"}`
		}
		_, _ = w.Write([]byte(body)) // the client has gone
	}))
	t.Cleanup(s.Close)
	return s
}

// disk is a discover.Disk in memory.
type disk struct{ kept map[string][]byte }

func (d *disk) Load() (map[string][]byte, error) { return maps.Clone(d.kept), nil }

func (d *disk) Commit(set map[string][]byte, _ ...string) error {
	if d.kept == nil {
		d.kept = map[string][]byte{}
	}
	maps.Copy(d.kept, set)
	return nil
}

func open(t *testing.T, cfg discover.Config) *discover.Peers {
	t.Helper()
	cfg.Self = self
	p, err := discover.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }
