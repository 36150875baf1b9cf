package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/turn"
)

const (
	stormKills    = 36          // of agents, as many on each host; WEFT_STORM_KILLS changes it
	fullDiskShare = 3           // so many times fewer on full disks: each waits for a disk to fill
	stormWorkers  = 2           // that start and remove containers, on each host
	stormBoxes    = 3           // that one of them keeps at most
	stormPatience = time.Minute // for one docker command, with all that Docker repeats
)

// storm runs docker run and docker rm on all members at the same time, while a fault is repeated.
type storm struct {
	*scene
	network string
	subnet  netip.Prefix
	twice   bool // see hit
	rough   bool // Docker is killed too, and any command of it may fail
	excuses []excuse
	began   time.Time
	calm    chan struct{} // closed when the workers are to end
	all     sync.WaitGroup

	endStorm func() // gives the places back

	mu      sync.Mutex
	tenants map[netip.Addr]string // who has an address, from the end of docker run to the beginning of docker rm
	count   map[string]int
	wrong   []string
}

// TestIntegrationStorm kills agents at random instants while Docker starts and removes containers on
// all hosts. No address is ever doubled or lost. Every error is one of Weft's, or Docker's about the
// missing agent, and no answer is late.
func TestIntegrationStorm(t *testing.T) {
	s := onMembersAlone(t)
	m := s.storm("10.71.0.0/25", "/28")
	m.twice = s.engineMajor() < 23 // later ones start such a plugin again for ever (README, Troubleshooting)
	s.leader()                     // when all members keep the ledger
	m.begin(stormWorkers)
	must(t, each(s.members(), func(h *lab.Host) error { return m.strike(h, kills()/members) }))
	m.end()
	eventually(t, 3*healWithin, s.allMembers)
	m.met("docker run", kills()/4)
	m.survivors()
	m.quiet()

	// Every address becomes free and every endpoint goes. That takes two minutes for addresses that
	// Docker requested and did not use, and for endpoints that it deleted while no agent ran, so
	// this is checked after all other tests.
	s.networks = map[int][]string{}
	inTheEnd(t.Name(), func(ctx context.Context) error {
		err := await(ctx, 5*time.Minute, m.restored)
		if err == nil {
			_, err = s.lab.Host(1).Docker(ctx, "network", "rm", m.network)
		}
		return err
	})
}

// kills is how many agents a storm kills in all.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("WEFT_STORM_KILLS")); err == nil {
		return n
	}
	return stormKills
}

// met checks that something happened at least so many times.
func (m *storm) met(what string, times int) {
	m.t.Helper()
	if m.count[what] < times {
		m.t.Errorf("%q was met %d times, want %d and more", what, m.count[what], times)
	}
}

// restored returns nil if no address is held and all can be handed out again. A claimed address is in
// no block, so it may still be held when all blocks are free.
func (m *storm) restored(ctx context.Context) error {
	if err := m.free(ctx, m.network, m.members()...); err != nil {
		return err
	}
	return m.whole(ctx)
}

// whole returns nil if every address of the subnet except the first, the last and the gateway can be
// handed out again. The hosts request them all together.
func (m *storm) whole(ctx context.Context) error {
	want := 1<<(32-m.subnet.Bits()) - 3
	total, told := 0, ""
	for _, h := range m.members() {
		got, refusal, err := m.exhaust(ctx, h, m.subnet.String(), func() error { return nil })
		if err != nil {
			return err
		}
		defer func() { _ = m.release(ctx, h, got) }()
		total, told = total+len(got), told+"\n"+h.Name()+": "+refusal
	}
	if total != want {
		return fmt.Errorf("of %d addresses of %s only %d can be handed out:%s", want, m.subnet, total, told)
	}
	return nil
}

// storm prepares one on a network of its own, made with these further arguments.
func (s *scene) storm(subnet, block string, args ...string) *storm {
	s.t.Helper()
	m := &storm{
		scene: s, subnet: netip.MustParsePrefix(subnet), calm: make(chan struct{}),
		tenants: map[netip.Addr]string{}, count: map[string]int{}, excuses: excuses,
	}
	m.network = s.network(s.members()[0], "storm", append(args, "--subnet", subnet, "-o", "weft.block="+block)...)
	return m
}

// begin starts several workers on each host.
func (m *storm) begin(workers int) {
	m.endStorm = m.loud()
	m.began = time.Now()
	for _, h := range m.members() {
		for w := range workers {
			m.all.Go(func() { m.work(h, fmt.Sprintf("w%d-%d", h.Number(), w)) })
		}
	}
	m.all.Go(m.watch)
}

// end waits for the workers and logs what they met.
func (m *storm) end() {
	m.t.Helper()
	close(m.calm)
	m.all.Wait()
	m.endStorm()
	m.t.Logf("the storm took %v", time.Since(m.began))
	for _, line := range slices.Sorted(maps.Keys(m.count)) {
		m.t.Logf("%4d %s", m.count[line], line)
	}
	for _, line := range m.wrong {
		m.t.Error(line)
	}
}

// quiet removes all containers.
func (m *storm) quiet() {
	m.t.Helper()
	must(m.t, each(m.members(), func(h *lab.Host) error {
		_, err := h.Exec(m.t.Context(), "sh", "-c", "docker ps -aq --filter name="+m.prefix+" | xargs -r docker rm -f")
		return err
	}))
}

// free returns nil when the agents of some hosts hold no address of a network.
func (r *rig) free(ctx context.Context, network string, hosts ...*lab.Host) error {
	return each(hosts, func(h *lab.Host) error {
		report, err := r.report(ctx, h)
		if err != nil {
			return err
		}
		n, _ := find(report, network)
		if len(n.Endpoints) > 0 {
			return fmt.Errorf("the agent of %s knows endpoints %+v", h.Name(), n.Endpoints)
		}
		for _, sub := range n.Subnets {
			for _, k := range sub.Blocks {
				if k.Used != nil && *k.Used > 0 {
					return fmt.Errorf("the agent of %s holds %d addresses of %s", h.Name(), *k.Used, k.Prefix)
				}
			}
		}
		return nil
	})
}

// survivors checks that every host has the facts of all containers that still run.
func (m *storm) survivors() {
	m.t.Helper()
	var boxes []attached
	eventually(m.t, healWithin, func(ctx context.Context) (err error) {
		boxes, err = m.known(ctx, m.network)
		return err
	})
	m.t.Logf("%d containers run", len(boxes))
}

func (m *storm) tally(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count[what]++
}

func (m *storm) accuse(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

// enter notes that a container has an address; leave that it may lose it now.
func (m *storm) enter(a netip.Addr, who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, taken := m.tenants[a]; taken {
		m.wrong = append(m.wrong, fmt.Sprintf("%s was given to %s while %s has it", a, who, other))
	}
	m.tenants[a] = who
}

func (m *storm) leave(a netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tenants, a)
}

func (m *storm) over() bool {
	select {
	case <-m.calm:
		return true
	default:
		return false
	}
}

// work starts, restarts and removes containers on a host until the storm is over.
func (m *storm) work(h *lab.Host, name string) {
	var mine []box
	for n := 0; !m.over(); n++ {
		switch dice := rand.IntN(8); {
		case len(mine) == 0 || len(mine) < stormBoxes && dice < 4:
			if b, ok := m.launch(h, fmt.Sprintf("%s-%d", name, n), dice == 0); ok {
				mine = append(mine, b)
			}
		case dice == 7:
			i := rand.IntN(len(mine))
			m.leave(mine[i].addr)
			if b, ok := m.again(mine[i]); ok {
				mine[i] = b
			} else {
				mine = slices.Delete(mine, i, i+1)
			}
		default:
			i := rand.IntN(len(mine))
			m.leave(mine[i].addr)
			m.order(h, "rm", "-f", mine[i].name)
			mine = slices.Delete(mine, i, i+1)
		}
	}
}

// launch starts a container, with --ip if static is set.
func (m *storm) launch(h *lab.Host, name string, static bool) (box, bool) {
	args := m.command(h, m.network, name)
	if static {
		a := m.subnet.Addr().As4()
		a[3] += byte(2 + rand.IntN(120))
		args = m.command(h, m.network, name, "--ip", netip.AddrFrom4(a).String())
	}
	args = append(args[:len(args)-3], "probe", "serve")
	if m.order(h, args...) {
		return m.noteAddress(h, m.name(name))
	}
	m.order(h, "rm", "-f", m.name(name))
	return box{}, false
}

// again restarts a container.
func (m *storm) again(b box) (box, bool) {
	if m.order(b.host, "restart", "-t", "0", b.name) {
		return m.noteAddress(b.host, b.name)
	}
	m.order(b.host, "rm", "-f", b.name)
	return box{}, false
}

// noteAddress notes which address a container was given.
func (m *storm) noteAddress(h *lab.Host, name string) (box, bool) {
	a, err := addrOf(m.t.Context(), h, name, m.network)
	if err != nil {
		m.accuse("%s was started and has no address: %v", name, err)
		return box{}, false
	}
	m.enter(a, name+" on "+h.Name())
	return box{h, name, a}, true
}

// order runs a docker command and checks its answer.
func (m *storm) order(h *lab.Host, args ...string) bool {
	patience := stormPatience
	if m.rough {
		patience = removedWithin
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	began := time.Now()
	_, err := h.Docker(ctx, args...)
	what := "docker " + args[0]
	if args[0] == "network" {
		what += " " + args[1]
	}
	if slices.Contains(args, "--ip") {
		what += " --ip"
	}
	if err == nil {
		m.tally(what)
		return true
	}
	_, said, _ := strings.Cut(err.Error(), "exit status")
	if ctx.Err() != nil {
		m.accuse("%s has no answer after %v: %v", what, time.Since(began), err)
		return false
	}
	i := slices.IndexFunc(m.excuses, func(e excuse) bool { return e.says.MatchString(said) })
	if i < 0 || args[0] == "rm" && !m.rough {
		m.accuse("%s on %s was refused with %s", what, h.Name(), said)
		return false
	}
	m.tally(what + " was refused: " + m.excuses[i].because)
	return false
}

// watch looks all the time for two containers with one address. Docker still lists a
// container that it is stopping, so both must be listed with the same endpoints some time
// later.
func (m *storm) watch() {
	for !m.over() {
		list, err := m.dockersSay(m.t.Context(), m.network)
		if err != nil && !m.rough {
			m.accuse("%v", err)
			return
		}
		m.tally("looks at all Dockers")
		two := doubles(list)
		if len(two) == 0 {
			if !turn.Sleep(m.t.Context(), 300*time.Millisecond) {
				return
			}
			continue
		}
		if !turn.Sleep(m.t.Context(), 3*time.Second) {
			return
		}
		list, err = m.dockersSay(m.t.Context(), m.network)
		for _, pair := range two {
			if err == nil && slices.Contains(list, pair[0]) && slices.Contains(list, pair[1]) {
				m.accuse("docker runs two containers with one address: %v and %v", pair[0], pair[1])
			}
		}
	}
}
