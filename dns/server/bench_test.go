package server

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/dns/takeover"
	"github.com/weftnet/weft/dns/takeover/takeovertest"
)

// The load: so many queries a second over so many sockets, for so long. The generator is a
// process of its own, so that its share of the processor can be told from the server's.
const (
	loadRate    = 20_000
	loadSockets = 16
	loadTime    = 2 * time.Second
)

// TestMain is the generator, too.
func TestMain(m *testing.M) {
	if at := os.Getenv("WEFT_TEST_LOAD"); at != "" {
		if err := generate(at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// loaded is what the generator measured, times in microseconds.
type loaded struct {
	Sent, Lost, P50, P99, P999 int64
	Processor                  int64 // of the generator
}

// generate sends the load and prints what came of it.
func generate(at string) error {
	var sockets []*socket
	var all sync.WaitGroup
	each := int(loadTime.Seconds()*loadRate) / loadSockets
	for i := range loadSockets {
		conn, err := net.Dial("udp", at)
		if err != nil {
			return err
		}
		begin := time.Now().Add(50*time.Millisecond + time.Duration(i)*loadTime/time.Duration(each*loadSockets))
		s := &socket{conn: conn, begin: begin, sent: make([]atomic.Int64, each)}
		sockets = append(sockets, s)
		all.Go(s.send)
		all.Go(s.receive)
	}
	all.Wait()
	var took []int64
	for _, s := range sockets {
		took = append(took, s.took...)
	}
	slices.Sort(took)
	used, err := processor()
	if err != nil {
		return err
	}
	p := func(of float64) int64 { return took[int(of*float64(len(took)-1))] / 1000 }
	sent := int64(each * loadSockets)
	return json.NewEncoder(os.Stdout).Encode(loaded{sent, sent - int64(len(took)), p(0.5), p(0.99), p(0.999), used.Microseconds()})
}

// socket is one client.
type socket struct {
	conn  net.Conn
	begin time.Time
	sent  []atomic.Int64 // nanoseconds since begin, by query
	took  []int64        // nanoseconds
}

// send sends at an even pace, and what it is late with at once.
func (s *socket) send() {
	query := new(mdns.Msg).SetQuestion("db.", mdns.TypeA)
	packet, err := query.Pack()
	if err != nil {
		panic(err)
	}
	gap := loadTime / time.Duration(len(s.sent))
	for i := range s.sent {
		if wait := time.Until(s.begin.Add(time.Duration(i) * gap)); wait > 0 {
			<-time.After(wait)
		}
		packet[0], packet[1] = byte(i>>8), byte(i)
		s.sent[i].Store(int64(time.Since(s.begin)))
		_, _ = s.conn.Write(packet) // a loss shows
	}
}

func (s *socket) receive() {
	_ = s.conn.SetReadDeadline(s.begin.Add(loadTime + time.Second)) // or it waits for what is lost
	buffer := make([]byte, maxUDP)
	for range s.sent {
		if _, err := s.conn.Read(buffer); err != nil {
			return
		}
		i := int(buffer[0])<<8 | int(buffer[1])
		s.took = append(s.took, int64(time.Since(s.begin))-s.sent[i].Load())
	}
}

// processor is what this process has used.
func processor() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// load runs the generator against a server in this process. It returns the processor time of
// both, too.
func load(b *testing.B, at string) (l loaded, server time.Duration) {
	b.Helper()
	before, err := processor()
	check(b, err)
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WEFT_TEST_LOAD="+at)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	check(b, err)
	check(b, json.Unmarshal(out, &l))
	after, err := processor()
	check(b, err)
	return l, after - before
}

// BenchmarkLoad compares our server with one of miekg/dns that does nothing but answer, in turn,
// over three rounds: 20,000 queries a second. Of the rounds, the median counts.
func BenchmarkLoad(b *testing.B) {
	packets, err := (&net.ListenConfig{}).ListenPacket(b.Context(), "udp", "127.0.0.1:0")
	check(b, err)
	echo := &mdns.Server{PacketConn: packets, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, query *mdns.Msg) {
		_ = w.WriteMsg(new(mdns.Msg).SetReply(query)) // a loss shows
	})}
	go func() { _ = echo.ActivateAndServe() }() // until Shutdown
	b.Cleanup(func() { check(b, echo.Shutdown()) })
	at := []string{packets.LocalAddr().String(), host(b, config(nil)).packets.LocalAddr().String()}
	for b.Loop() {
		var p99, lost [2][]int64
		for round := range 3 {
			for i, who := range []string{"echo", "ours"} {
				l, server := load(b, at[i])
				p99[i], lost[i] = append(p99[i], l.P99), append(lost[i], l.Lost)
				b.Logf("round %d, %s: %d queries, %d lost, p50 %d µs, p99 %d µs, p99.9 %d µs; processor %.0f%% of a core, the generator's %.0f%%", round, who,
					l.Sent, l.Lost, l.P50, l.P99, l.P999, 100*server.Seconds()/loadTime.Seconds(), 100*float64(l.Processor)/float64(loadTime.Microseconds()))
			}
		}
		for i := range 2 {
			slices.Sort(p99[i])
			slices.Sort(lost[i])
		}
		b.ReportMetric(float64(p99[1][1])/float64(p99[0][1]), "p99/echo")
		b.ReportMetric(float64(lost[1][1]), "lost")
		b.ReportMetric(float64(lost[0][1]), "lost-echo")
	}
}

// BenchmarkContainer asks in a container: Docker's resolver itself, which a server of miekg/dns
// stands for, as Docker's is one; a name of ours; and a name that is passed on.
func BenchmarkContainer(b *testing.B) {
	c := takeovertest.New(b, takeovertest.NFTables, takeovertest.Always(dockers))
	conn := c.Dial(b, "udp4", takeover.Mark)
	take(b, c.NS, config(nil))
	taken := c.Dial(b, "udp4", 0)
	var took [3][]time.Duration
	for b.Loop() {
		for i, ask := range []struct {
			conn net.Conn
			name string
		}{{conn, "example.com."}, {taken, "db."}, {taken, "example.com."}} {
			started := time.Now()
			_, err := takeovertest.Ask(ask.conn, ask.name)
			check(b, err)
			took[i] = append(took[i], time.Since(started))
		}
	}
	for i, unit := range []string{"µs-docker", "µs-ours", "µs-forwarded"} {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2].Nanoseconds())/1000, unit)
	}
}

// BenchmarkNamespace is a visit to a container's namespace, which a socket would cost for each
// query that is passed on.
func BenchmarkNamespace(b *testing.B) {
	c := takeovertest.New(b, takeovertest.NFTables, takeovertest.Always(dockers))
	for b.Loop() {
		c.Do(b, func() error { return nil })
	}
}
