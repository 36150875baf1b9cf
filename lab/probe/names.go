package probe

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Span is a time in which one question always had the same answer.
type Span struct {
	Answer  string  `json:"answer"` // sorted addresses, NODATA, a code such as NXDOMAIN, or silence
	Asked   int     `json:"asked"`
	From    float64 `json:"from_ms"` // since the beginning, of the first and the last question
	To      float64 `json:"to_ms"`
	Slowest float64 `json:"slowest_ms"`
}

// Names asks a DNS server for the IPv4 addresses of a name every so often until ctx ends, by one
// socket that it keeps, or by a new one for each question. A question waits for an answer for a second.
func Names(ctx context.Context, server, name string, every time.Duration, keep bool) (out []Span, err error) {
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var conn *dns.Conn
	for ctx.Err() == nil {
		if conn == nil {
			if conn, err = dns.Dial("udp", server); err != nil {
				return out, err
			}
		}
		at := time.Now()
		answer := ask(conn, name)
		took := ms(time.Since(at))
		if len(out) == 0 || out[len(out)-1].Answer != answer {
			out = append(out, Span{Answer: answer, From: ms(at.Sub(began))})
		}
		last := &out[len(out)-1]
		last.Asked, last.To, last.Slowest = last.Asked+1, ms(at.Sub(began)), max(last.Slowest, took)
		if !keep {
			_ = conn.Close() // nothing is written
			conn = nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return out, nil
}

// ask has one question answered. A socket that is refused stays as it is, since clients keep theirs too.
func ask(conn *dns.Conn, name string) string {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // a socket takes any
	if err := conn.WriteMsg(q); err != nil {
		return "refused"
	}
	for {
		reply, err := conn.ReadMsg()
		switch {
		case err != nil && strings.Contains(err.Error(), "refused"):
			return "refused"
		case err != nil:
			return "silence"
		case reply.Id != q.Id: // an earlier question's
		case reply.Rcode != dns.RcodeSuccess:
			return dns.RcodeToString[reply.Rcode]
		default:
			return addresses(reply)
		}
	}
}

func addresses(reply *dns.Msg) string {
	var out []string
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			out = append(out, net.IP.String(a.A))
		}
	}
	if len(out) == 0 {
		return "NODATA"
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
