package probe

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Span is a time in which one question always had the same answer.
type Span struct {
	Answer  string    `json:"answer"` // sorted addresses, NODATA, a code such as NXDOMAIN, refused, or silence
	Asked   int       `json:"asked"`
	Since   time.Time `json:"since"` // of the first question
	Until   time.Time `json:"until"` // of the last one
	Slowest float64   `json:"slowest_ms"`
}

// nameTimeout is how long a question waits for its answer.
const nameTimeout = time.Second

// question is one that was asked.
type question struct {
	at     time.Time
	took   time.Duration
	answer string // empty: none came yet
}

// Names asks a DNS server for the IPv4 addresses of a name every so often until ctx ends, by one
// socket that it keeps, or by a new one for each question. No question waits for another.
func Names(ctx context.Context, server, name string, every time.Duration, keep bool) ([]Span, error) {
	var asked []*question
	var waiting sync.WaitGroup
	ask := func(q *question) {
		waiting.Go(func() {
			if conn, err := dns.Dial("udp", server); err == nil {
				q.answered(askOnce(conn, name))
				_ = conn.Close() // it is not used again
			}
		})
	}
	if keep {
		one, err := newSocket(server, name)
		if err != nil {
			return nil, err
		}
		defer one.end()
		ask = one.ask
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		q := &question{at: time.Now()}
		asked = append(asked, q)
		ask(q)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	waiting.Wait()
	if keep {
		time.Sleep(nameTimeout) // for the last answers
	}
	return spans(asked), nil
}

func (q *question) answered(answer string) { q.answer, q.took = answer, time.Since(q.at) }

// askOnce has one question answered.
func askOnce(conn *dns.Conn, name string) string {
	_ = conn.SetDeadline(time.Now().Add(nameTimeout)) // a socket takes any
	if err := conn.WriteMsg(aQuery(name)); err != nil {
		return failed(err)
	}
	reply, err := conn.ReadMsg()
	if err != nil {
		return failed(err)
	}
	return answerOf(reply)
}

func aQuery(name string) *dns.Msg { return new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA) }

func failed(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	return "silence"
}

// socket asks by one socket, as clients do that keep theirs.
type socket struct {
	conn *dns.Conn
	name string

	mu      sync.Mutex
	waiting map[uint16]*question
	next    uint16
}

func newSocket(server, name string) (*socket, error) {
	conn, err := dns.Dial("udp", server)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, name: name, waiting: map[uint16]*question{}}
	go s.read()
	return s, nil
}

func (s *socket) ask(q *question) {
	query := aQuery(s.name)
	s.mu.Lock()
	s.next++
	query.Id = s.next
	s.waiting[query.Id] = q
	s.mu.Unlock()
	if err := s.conn.WriteMsg(query); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		q.answered(failed(err))
	}
}

func (s *socket) read() {
	for {
		reply, err := s.conn.ReadMsg()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // refused: which question that was is not known
		}
		s.mu.Lock()
		if q := s.waiting[reply.Id]; q != nil && time.Since(q.at) < nameTimeout {
			q.answered(answerOf(reply))
		}
		delete(s.waiting, reply.Id)
		s.mu.Unlock()
	}
}

// end is called when no answer is waited for any more.
func (s *socket) end() { _ = s.conn.Close() } // nothing is written

func answerOf(reply *dns.Msg) string {
	if reply.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[reply.Rcode]
	}
	var out []string
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			out = append(out, a.A.String())
		}
	}
	if len(out) == 0 {
		return "NODATA"
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func spans(asked []*question) (out []Span) {
	for _, q := range asked {
		if q.answer == "" {
			q.answer, q.took = "silence", nameTimeout
		}
		if len(out) == 0 || out[len(out)-1].Answer != q.answer {
			out = append(out, Span{Answer: q.answer, Since: q.at})
		}
		last := &out[len(out)-1]
		last.Asked, last.Until = last.Asked+1, q.at
		last.Slowest = max(last.Slowest, float64(q.took.Microseconds())/1000)
	}
	return out
}
