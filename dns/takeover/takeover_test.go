package takeover

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/dns/takeover/takeovertest"
)

// What the two servers answer to any question.
const (
	dockers = "192.0.2.1"
	ours    = "192.0.2.2"
)

var allRules = []takeovertest.Rules{takeovertest.NFTables, takeovertest.IPTablesNFT, takeovertest.IPTablesLegacy}

// eachRules runs a test in a container for each way in which dockerd writes its rules.
func eachRules(t *testing.T, test func(t *testing.T, c *takeovertest.Container)) {
	for _, rules := range allRules {
		t.Run(string(rules), func(t *testing.T) {
			t.Parallel()
			test(t, takeovertest.New(t, rules, takeovertest.Always(dockers)))
		})
	}
}

// take installs a takeover for a new server.
func take(t *testing.T, c *takeovertest.Container, lifetime time.Duration) (*Takeover, *takeovertest.Server) {
	t.Helper()
	s := takeovertest.Serve(t, c.NS, takeovertest.Always(ours))
	taken, err := install(c.NS, s.UDP, s.TCP, lifetime)
	check(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	return taken, s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantAnswer(t *testing.T, what string, conn net.Conn, want string) {
	t.Helper()
	if got, err := takeovertest.Ask(conn, "db."); err != nil || got != want {
		t.Errorf("%s: answered by %q (%v), want %s", what, got, err, want)
	}
}

// wantFresh asks with new sockets of every kind.
func wantFresh(t *testing.T, c *takeovertest.Container, want string) {
	t.Helper()
	wantAnswer(t, "new connected UDP socket", c.Dial(t, "udp4", 0), want)
	wantAnswer(t, "new unconnected UDP socket", c.Unconnected(t), want)
	wantAnswer(t, "new TCP connection", c.Dial(t, "tcp4", 0), want)
}

// until asks over a socket until the answer is as wanted, for 5 seconds.
func until(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; {
		got, err := takeovertest.AskWithin(conn, "db.", 100*time.Millisecond)
		switch {
		case err == nil && got == want:
			return
		case time.Now().After(end):
			t.Fatalf("answered by %q (%v), want %s", got, err, want)
		}
	}
}

func TestIntegrationQueriesReachOurServer(t *testing.T) {
	eachRules(t, func(t *testing.T, c *takeovertest.Container) {
		kept := map[string]net.Conn{"connected": c.Dial(t, "udp4", 0), "unconnected": c.Unconnected(t)}
		for name, conn := range kept { // conntrack knows them
			wantAnswer(t, name+" UDP socket, before", conn, dockers)
		}
		wantFresh(t, c, dockers)
		s := takeovertest.Serve(t, c.NS, takeovertest.Always(ours))
		taken, err := Install(c.NS, s.UDP, s.TCP)
		check(t, err)
		for range 3 {
			wantFresh(t, c, ours)
			for name, conn := range kept {
				wantAnswer(t, name+" UDP socket that is kept", conn, ours)
			}
			check(t, taken.Refresh())
		}
		for _, network := range []string{"udp4", "tcp4"} {
			wantAnswer(t, "marked "+network, c.Dial(t, network, Mark), dockers)
		}
		c.StartDocker(t, takeovertest.Always("192.0.2.3"))
		check(t, taken.Refresh())
		wantFresh(t, c, ours)
		wantAnswer(t, "marked, after Docker's resolver has other ports", c.Dial(t, "udp4", Mark), "192.0.2.3")
		check(t, taken.Close())
	})
}

// The agent ends without a word, and comes back with other ports.
func TestIntegrationDockerAnswersWhenTheAgentIsGone(t *testing.T) {
	eachRules(t, func(t *testing.T, c *takeovertest.Container) {
		kept := []net.Conn{c.Dial(t, "udp4", 0), c.Unconnected(t)}
		for range 2 {
			taken, s := take(t, c, 600*time.Millisecond)
			wantFresh(t, c, ours)
			for _, conn := range kept {
				wantAnswer(t, "kept socket", conn, ours)
			}
			s.Close()
			check(t, taken.kernel.close())
			for _, conn := range kept {
				until(t, conn, dockers)
			}
			wantFresh(t, c, dockers)
		}
	})
}

// Refreshing for several lifetimes; each client asks without a pause.
func TestIntegrationRefreshLeavesNoGap(t *testing.T) {
	const lifetime = 300 * time.Millisecond
	c := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	taken, _ := take(t, c, lifetime)
	stop, done := make(chan struct{}), make(chan int)
	for _, conn := range []net.Conn{c.Dial(t, "udp4", 0), c.Unconnected(t)} {
		go func() {
			asked := 0
			for ; ; asked++ {
				select {
				case <-stop:
					done <- asked
					return
				default:
					wantAnswer(t, "while it is refreshed", conn, ours)
				}
			}
		}()
	}
	refreshed := 0
	for end := time.Now().Add(4 * lifetime); time.Now().Before(end); refreshed++ {
		check(t, taken.Refresh())
	}
	close(stop)
	t.Logf("%d refreshes, %d queries", refreshed, <-done+<-done)
}

func TestIntegrationRefreshSaysThatTheRulesAreReplaced(t *testing.T) {
	c := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	for _, change := range []string{
		"flush ruleset",
		"delete table ip weft-dns",
		"flush chain ip weft-dns output",
		"delete element ip weft-dns live { tcp }",
		"insert rule ip weft-dns output accept",
	} {
		taken, _ := take(t, c, Lifetime)
		check(t, taken.Refresh())
		c.Run(t, "nft", "add table ip others")
		if err := taken.Refresh(); err != nil {
			t.Errorf("after a change that is none of ours: %v", err)
		}
		c.Run(t, "nft", change)
		if err := taken.Refresh(); !errors.Is(err, ErrReplaced) {
			t.Errorf("after %q: %v", change, err)
		}
		check(t, taken.Close())
	}
	first, _ := take(t, c, Lifetime)
	second, _ := take(t, c, Lifetime)
	if err := first.Refresh(); !errors.Is(err, ErrReplaced) {
		t.Errorf("after another agent: %v", err)
	}
	check(t, first.Close())
	check(t, second.Refresh())
	wantFresh(t, c, ours)
}

// An element whose time is over cannot be deleted. The agent was stopped for too long.
func TestIntegrationRefreshThatIsLate(t *testing.T) {
	c := takeovertest.New(t, takeovertest.NFTables, takeovertest.Always(dockers))
	taken, _ := take(t, c, 100*time.Millisecond)
	until(t, c.Dial(t, "udp4", 0), dockers)
	if err := taken.Refresh(); !errors.Is(err, ErrReplaced) {
		t.Errorf("%v, want ErrReplaced", err)
	}
}

func wantExists(t *testing.T, c *takeovertest.Container, want bool) {
	t.Helper()
	if is, err := Exists(c.NS); is != want || err != nil {
		t.Errorf("Exists: %v, %v, want %v", is, err, want)
	}
}

func TestIntegrationCloseAndRemoveLeaveNothing(t *testing.T) {
	eachRules(t, func(t *testing.T, c *takeovertest.Container) {
		kept := c.Dial(t, "udp4", 0)
		for name, end := range map[string]func(taken *Takeover) error{
			"Close": func(taken *Takeover) error { return taken.Close() },
			"Remove": func(*Takeover) error {
				was, err := Remove(c.NS)
				if !was {
					t.Error("Remove says that there was nothing")
				}
				return err
			},
		} {
			taken, _ := take(t, c, Lifetime)
			wantAnswer(t, "kept socket", kept, ours)
			wantExists(t, c, true)
			check(t, end(taken))
			wantExists(t, c, false)
			wantAnswer(t, "kept socket, after "+name, kept, dockers)
			wantFresh(t, c, dockers)
			if out := c.Run(t, "nft", "list ruleset"); strings.Contains(out, tableName) {
				t.Errorf("after %s: %s", name, out)
			}
		}
		if was, err := Remove(c.NS); was || err != nil {
			t.Errorf("nothing is there: %v, %v", was, err)
		}
	})
}

// BenchmarkRefresh refreshes 500 containers in turn. %core is of one core, of the whole
// machine's processor time in the kernel and here, at a refresh of each every 5 seconds.
func BenchmarkRefresh(b *testing.B) {
	const containers, every = 500, 5
	var all []*Takeover
	for range containers {
		c := takeovertest.New(b, takeovertest.NFTables, takeovertest.Always(dockers))
		taken, err := install(c.NS, c.Docker.UDP, c.Docker.TCP, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = taken.Close() })
		all = append(all, taken)
	}
	before := processor(b)
	for i := 0; b.Loop(); i++ {
		if err := all[i%containers].Refresh(); err != nil {
			b.Fatal(err)
		}
	}
	each := (processor(b) - before).Seconds() / float64(b.N)
	b.ReportMetric(each*1e6, "µs-processor/op")
	b.ReportMetric(100*each*containers/every, "%core")
}

// processor is what this process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
