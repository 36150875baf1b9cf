package probe

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

// Lookups asks a DNS server for the IPv4 addresses of a name, one question after the other by one
// socket.
func Lookups(ctx context.Context, server, name string, count int) (Times, error) {
	conn, err := dns.Dial("udp", server)
	if err != nil {
		return Times{}, err
	}
	defer func() { _ = conn.Close() }() // nothing is written
	var took []time.Duration
	for range count {
		if ctx.Err() != nil {
			break
		}
		began := time.Now()
		if answer := askOnce(conn, name); answer == "silence" || answer == "refused" {
			return Times{}, fmt.Errorf("%s, asked for %s: %s", server, name, answer)
		}
		took = append(took, time.Since(began))
	}
	return Summarize(took), nil
}

// ServeNothing is a DNS server that knows no name, until ctx ends.
func ServeNothing(ctx context.Context, addr string) error {
	packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return err
	}
	s := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError)) // else the client asks again
	})}
	stop := context.AfterFunc(ctx, func() { _ = s.Shutdown() })
	defer stop()
	return s.ActivateAndServe()
}
