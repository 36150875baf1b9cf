package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	core "github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/dns/takeover"
	"github.com/weftnet/weft/dns/takeover/takeovertest"
	"github.com/weftnet/weft/netmap"
)

// The load: so many queries a second over so many sockets, for so many containers. The generator is
// a process of its own, so that its share of the processor can be told from the server's.
const (
	loadRate       = 20_000
	loadSockets    = 16
	loadContainers = 50_000
	loadTime       = 2 * time.Second // of a round of the benchmark
	// loadWindow is how many queries of a socket wait for an answer where the pace is the server's: so
	// few that no socket of any server lacks space for them.
	loadWindow = 8
)

// TestMain is the generator, too.
func TestMain(m *testing.M) {
	if at := os.Getenv("WEFT_TEST_LOAD"); at != "" {
		length, err := time.ParseDuration(os.Getenv("WEFT_TEST_LENGTH"))
		if err == nil {
			err = generate(at, length)
		}
		if err != nil {
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

// generate sends the load for so long and prints what came of it. Zero is the load of a second, as
// fast as it is answered.
func generate(at string, length time.Duration) error {
	var sockets []*socket
	var all sync.WaitGroup
	each := int(cmp.Or(length, time.Second).Seconds()*loadRate) / loadSockets
	for i := range loadSockets {
		conn, err := net.Dial("udp", at)
		if err != nil {
			return err
		}
		begin := time.Now().Add(50*time.Millisecond + time.Duration(i)*length/time.Duration(each*loadSockets))
		s := &socket{conn: conn, begin: begin, length: length, sent: make([]atomic.Int64, each)}
		if length == 0 {
			s.waiting = make(chan struct{}, loadWindow)
		}
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
	conn    net.Conn
	begin   time.Time
	length  time.Duration
	waiting chan struct{}  // has a token for each query without an answer; nil: the pace is even
	sent    []atomic.Int64 // nanoseconds since begin, by query
	took    []int64        // nanoseconds
}

// send sends at an even pace, and what it is late with at once, or as fast as it is answered.
func (s *socket) send() {
	query := new(mdns.Msg).SetQuestion("container-4711.", mdns.TypeA)
	packet, err := query.Pack()
	if err != nil {
		panic(err)
	}
	gap := s.length / time.Duration(len(s.sent))
	for i := range s.sent {
		if wait := time.Until(s.begin.Add(time.Duration(i) * gap)); wait > 0 {
			<-time.After(wait)
		}
		if s.waiting != nil {
			s.waiting <- struct{}{}
		}
		packet[0], packet[1] = byte(i>>8), byte(i)
		s.sent[i].Store(int64(time.Since(s.begin)))
		_, _ = s.conn.Write(packet) // a loss shows
	}
}

func (s *socket) receive() {
	patience := time.Second // or it waits for what is lost
	if s.waiting != nil {
		patience = time.Minute
		defer close(s.waiting) // with some lost
	}
	_ = s.conn.SetReadDeadline(s.begin.Add(s.length + patience))
	buffer := make([]byte, maxUDP)
	for range s.sent {
		if _, err := s.conn.Read(buffer); err != nil {
			return
		}
		if s.waiting != nil {
			<-s.waiting
		}
		if buffer[7] == 0 { // no answer
			continue
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

// load runs the generator against a server in this process for so long, and logs what came of it. It
// returns the processor time of the server, too.
func load(t testing.TB, who, at string, length time.Duration) (l loaded, server time.Duration) {
	t.Helper()
	before, err := processor()
	check(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WEFT_TEST_LOAD="+at, "WEFT_TEST_LENGTH="+length.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	check(t, err)
	check(t, json.Unmarshal(out, &l))
	after, err := processor()
	check(t, err)
	t.Logf("%s: %d queries, %d lost, p50 %d µs, p99 %d µs, p99.9 %d µs; processor for a query %d µs, the generator's %d µs", who,
		l.Sent, l.Lost, l.P50, l.P99, l.P999, (after-before).Microseconds()/l.Sent, l.Processor/l.Sent)
	return l, after - before
}

// crowded is the cluster's names as a container on a network of so many others asks for them.
func crowded() Config {
	view := &netmap.View{Networks: []netmap.Network{{ID: 1, Name: "overlay", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}
	all := make([]netmap.EndpointView, loadContainers)
	for i := range all {
		e := netmap.Endpoint{ID: netmap.EndpointID(fmt.Sprintf("%064x", i)), Network: 1, V4: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}
		all[i] = netmap.EndpointView{Endpoint: e, Host: netmap.HostID{1, byte(i >> 8)}, Names: &netmap.EndpointName{Endpoint: e.ID, Name: fmt.Sprint("container-", i)}}
	}
	view = view.WithEndpoints(all...)
	n := core.New(core.Config{TTL: 5 * time.Second, Shuffle: rand.Shuffle})
	n.Apply(view, view.Since(nil))
	cfg := config(nil)
	cfg.Answer = n.For(func() []netmap.NetworkID { return []netmap.NetworkID{1} })
	return cfg
}

// beside is a server of miekg/dns that does nothing but answer, and ours beside it.
func beside(t testing.TB) (echo, ours string) {
	t.Helper()
	packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	check(t, err)
	s := &mdns.Server{PacketConn: packets, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, query *mdns.Msg) {
		_ = w.WriteMsg(takeovertest.Always(dockers)(query)) // a loss shows
	})}
	go func() { _ = s.ActivateAndServe() }() // until Shutdown
	t.Cleanup(func() { check(t, s.Shutdown()) })
	return packets.LocalAddr().String(), host(t, crowded()).packets.LocalAddr().String()
}

// TestTheLoadOfAHost: as many queries for one of 50,000 containers as come in a second are all answered, and one core
// does it within that second. They come as fast as they are answered, since on a busy machine a server may
// not run for longer than its socket has space for, so this is about the work and not about the time it takes.
func TestTheLoadOfAHost(t *testing.T) {
	echo, ours := beside(t)
	bare, _ := load(t, "miekg/dns", echo, 0)
	own, used := load(t, "ours", ours, 0)
	t.Logf("p99 is %.2f of the other's", float64(own.P99)/float64(bare.P99))
	if own.Sent != loadRate || own.Lost > 0 || used > time.Second {
		t.Errorf("%d of %d queries were not answered, and it took %s of the processor", own.Lost, own.Sent, used)
	}
}

// BenchmarkLoad compares our server with one of miekg/dns in turn, over three rounds. Of the
// rounds, the median counts.
func BenchmarkLoad(b *testing.B) {
	echo, ours := beside(b)
	for b.Loop() {
		var p99, lost [2][]int64
		for range 3 {
			for i, at := range []string{echo, ours} {
				l, _ := load(b, []string{"miekg/dns", "ours"}[i], at, loadTime)
				p99[i], lost[i] = append(p99[i], l.P99), append(lost[i], l.Lost)
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
