package takeovertest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weftnet/weft/netns"
)

// Answer answers a query, nil for none.
type Answer func(query *dns.Msg) *dns.Msg

// Always answers every question with one address.
func Always(addr string) Answer {
	ip := net.IP(netip.MustParseAddr(addr).AsSlice())
	return func(query *dns.Msg) *dns.Msg {
		reply := new(dns.Msg)
		reply.SetReply(query)
		header := dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 600}
		reply.Answer = []dns.RR{&dns.A{Hdr: header, A: ip}}
		return reply
	}
}

// Server answers at two ports of 127.0.0.11.
type Server struct {
	UDP, TCP uint16
	close    func()
}

// Close ends the server. The test's end does it too.
func (s *Server) Close() { s.close() }

// Serve starts a server in a namespace.
func Serve(t testing.TB, ns *netns.Namespace, answer Answer) *Server {
	t.Helper()
	var packets net.PacketConn
	var listener net.Listener
	err := ns.Do(func() (err error) {
		if packets, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.11:0"); err != nil {
			return err
		}
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.11:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		if reply := answer(query); reply != nil {
			_ = w.WriteMsg(reply) // whoever asked may be gone
		}
	})
	var running sync.WaitGroup
	servers := []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: listener, Handler: handler}}
	for _, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { _ = s.ActivateAndServe() }) // ends with Shutdown
		<-started
	}
	at := func(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }
	s := &Server{UDP: at(packets.LocalAddr()), TCP: at(listener.Addr()), close: sync.OnceFunc(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel() // waits for no connection
		for _, s := range servers {
			_ = s.ShutdownContext(now)
		}
		running.Wait()
	})}
	t.Cleanup(s.Close)
	return s
}

// patience is how long a reply may take on a machine that is busy.
const patience = 5 * time.Second

// Ask asks for the address of a name over a socket and returns it, or the error that the reply
// has.
func Ask(conn net.Conn, name string) (string, error) { return AskWithin(conn, name, patience) }

// AskWithin is Ask for a reply within d.
func AskWithin(conn net.Conn, name string, d time.Duration) (string, error) {
	query := new(dns.Msg)
	query.SetQuestion(name, dns.TypeA)
	reply, err := exchange(conn, query, d)
	switch {
	case err != nil:
		return "", err
	case len(reply.Answer) == 0:
		return dns.RcodeToString[reply.Rcode], nil
	}
	a, ok := reply.Answer[0].(*dns.A)
	if !ok {
		return "", fmt.Errorf("no address: %s", reply)
	}
	return a.A.String(), nil
}

// Exchange sends a query and reads the reply to it.
func Exchange(conn net.Conn, query *dns.Msg) (*dns.Msg, error) {
	return exchange(conn, query, patience)
}

func exchange(conn net.Conn, query *dns.Msg, d time.Duration) (*dns.Msg, error) {
	if err := conn.SetDeadline(time.Now().Add(d)); err != nil {
		return nil, err
	}
	c := dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	if err := c.WriteMsg(query); err != nil {
		return nil, err
	}
	for {
		reply, err := c.ReadMsg()
		if err != nil || reply.Id == query.Id {
			return reply, err
		}
	}
}
