package exact_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// networks are created with these options on all hosts. The first one has too few
// addresses.
var networks = []dockerapi.ReplicaSpec{
	{Name: "web", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.40.0.0/27")}}}},
	{Name: "dual", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.41.0.0/25")}, {Subnet: netip.MustParsePrefix("fd41::/64")}}}},
	{Name: "any", Driver: plugintest.Driver},
}

// maxContainers per host, so that addresses run short now and then.
const maxContainers = 10

// action is something that a user or Docker does, with its weight in the choice.
type action struct {
	name   string
	weight int
	alone  bool // nothing else happens at the same time on the host
	do     func(*machine) func(context.Context) error
}

var actions = []action{
	{"network create", 6, true, (*machine).createNetwork},
	{"network rm", 1, true, (*machine).removeNetwork},
	{"run", 30, false, (*machine).runAny},
	{"run --ip", 12, false, (*machine).runAt},
	{"start", 8, false, (*machine).startAgain},
	{"stop", 12, false, (*machine).stopOne},
	{"rm", 8, false, (*machine).removeOne},
	{"repeat", 2, true, (*machine).repeat},
	{"dockerd restart", 1, true, func(m *machine) func(context.Context) error { return m.restartDocker(false) }},
	{"dockerd live-restore", 1, true, func(m *machine) func(context.Context) error { return m.restartDocker(true) }},
}

// live runs repeatedly: something happens in Docker.
func (m *machine) live() {
	w := m.w
	if w.healed {
		return
	}
	w.after(w.between(10*time.Millisecond, w.style.pace), m.live)
	if m.busy > 2 || m.alone {
		return
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	draw := w.dice.IntN(total)
	for _, a := range actions {
		if draw -= a.weight; draw < 0 {
			m.act(a)
			return
		}
	}
}

// act does one thing in a goroutine of its own.
func (m *machine) act(a action) {
	if a.alone && m.busy > 0 {
		return
	}
	do := a.do(m)
	if do == nil {
		return
	}
	w := m.w
	m.busy++
	m.alone = a.alone
	m.made++
	n := m.made
	w.meet(a.name)
	w.note("%s: %s", m, a.name)
	begin := w.now()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	go func() {
		defer cancel()
		err := do(ctx)
		w.arrive(m.n, fmt.Sprintf("2 done %d", n), func() {
			m.busy--
			m.alone = m.alone && m.busy > 0
			w.note("%s: %s: %v after %v", m, a.name, err, w.now()-begin)
			if err == nil {
				w.meet(a.name + " succeeded")
			}
		})
	}()
}

func (m *machine) network(name string) string {
	list, _ := m.docker.Networks(context.Background()) // the engine's API is not broken here
	for _, n := range list {
		if n.Name == name {
			return n.ID
		}
	}
	return ""
}

func (m *machine) createNetwork() func(context.Context) error {
	for _, spec := range networks {
		if m.network(spec.Name) == "" {
			return func(ctx context.Context) error {
				_, err := m.docker.CreateNetwork(ctx, spec)
				return err
			}
		}
	}
	return nil
}

func (m *machine) removeNetwork() func(context.Context) error {
	id := m.network(networks[m.w.dice.IntN(len(networks))].Name)
	list := m.docker.Containers()
	return func(ctx context.Context) error {
		for _, c := range list {
			if c.Network == id {
				_ = m.docker.Remove(ctx, c.Name) // what the plugin says is judged by after
			}
		}
		return m.docker.RemoveNetwork(ctx, id)
	}
}

func (m *machine) runAny() func(context.Context) error {
	return m.run(networks[m.w.dice.IntN(len(networks))].Name, netip.Addr{})
}

// runAt starts a container with one of a few addresses of a subnet. They lie in blocks of
// several hosts, so two hosts may ask for one at the same time.
func (m *machine) runAt() func(context.Context) error {
	if m.w.chance(50) {
		return m.run("web", netip.AddrFrom4([4]byte{10, 40, 0, byte(2 + 3*m.w.dice.IntN(11))}))
	}
	return m.run("dual", netip.AddrFrom4([4]byte{10, 41, 0, byte(2 + 13*m.w.dice.IntN(9))}))
}

func (m *machine) run(network string, want netip.Addr) func(context.Context) error {
	id := m.network(network)
	if id == "" || len(m.docker.Containers()) >= maxContainers {
		return nil
	}
	name := fmt.Sprintf("c%d-%d", m.n, m.made)
	return func(ctx context.Context) error {
		_, err := m.docker.Run(ctx, name, id, want)
		if err != nil {
			_ = m.docker.Remove(ctx, name) // it does not run
		}
		return err
	}
}

func (m *machine) pick(running bool) (plugintest.Container, bool) {
	list := slices.DeleteFunc(m.docker.Containers(), func(c plugintest.Container) bool { return c.Running != running })
	if len(list) == 0 {
		return plugintest.Container{}, false
	}
	return list[m.w.dice.IntN(len(list))], true
}

func (m *machine) startAgain() func(context.Context) error {
	c, ok := m.pick(false)
	if !ok || m.busy > 0 {
		return nil
	}
	return func(ctx context.Context) error {
		_, err := m.docker.Run(ctx, c.Name, c.Network, c.Want)
		return err
	}
}

func (m *machine) stopOne() func(context.Context) error {
	c, ok := m.pick(true)
	if !ok {
		return nil
	}
	return func(ctx context.Context) error { return m.docker.Stop(ctx, c.Name) }
}

func (m *machine) removeOne() func(context.Context) error {
	c, ok := m.pick(true)
	if !ok {
		return nil
	}
	return func(ctx context.Context) error { return m.docker.Remove(ctx, c.Name) }
}

// repeat checks invariant 6: it makes a call again that was answered before.
func (m *machine) repeat() func(context.Context) error {
	return func(ctx context.Context) error { return m.docker.Repeat(ctx) }
}

func (m *machine) restartDocker(live bool) func(context.Context) error {
	return func(ctx context.Context) error { return m.docker.Restart(ctx, live) }
}

// before is called before each call of Docker's. It serialises the requests of a host for any
// address, because the scheduler would decide which of two is served first when a block comes.
func (m *machine) before(c plugintest.Call) {
	switch {
	case c.Method == "NetworkDriver.CreateEndpoint" && m.pause > 0:
		time.Sleep(m.pause)
	case c.Method == "IpamDriver.ReleaseAddress" && c.Container != "":
		m.w.arrive(m.n, m.order(c)+" releases "+c.Body, func() { m.w.released(m, c) })
	case anyAddress(c):
		turn := make(chan struct{})
		m.w.arrive(m.n, m.order(c)+" waits for its turn", func() {
			m.waiting = append(m.waiting, turn)
			m.next()
		})
		<-turn
	}
}

// order returns the number of a call among those for the same container, as text.
func (m *machine) order(c plugintest.Call) string {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.calls[c.Container]++
	return fmt.Sprintf("1 %s %05d", c.Container, m.calls[c.Container])
}

func anyAddress(c plugintest.Call) bool {
	return c.Method == "IpamDriver.RequestAddress" && c.Container != "" && strings.Contains(c.Body, `"Address":""`)
}

func (m *machine) next() {
	if !m.asking && len(m.waiting) > 0 {
		m.asking = true
		close(m.waiting[0])
		m.waiting = m.waiting[1:]
	}
}

// after checks every answer.
func (m *machine) after(c plugintest.Call) {
	m.w.arrive(m.n, m.order(c)+" answer "+c.Method+c.Body, func() {
		if anyAddress(c) {
			m.asking = false
			m.next()
		}
		if m.life != nil { // else it was killed at this moment
			m.w.answered(m, c)
		}
	})
}

// holding is who was given an address.
type holding struct {
	m         *machine
	identity  netmap.HostID
	container string
	at        time.Duration
}

// neverCame reports whether Docker, in a scene, creates the endpoint so late that the address was
// taken back. The endpoint must be refused then.
func (h holding) neverCame() bool {
	return h.m.pause > abandonedAfter && h.m.w.now()-h.at > abandonedAfter
}

// abandonedAfter is ipam's constant of this name.
const abandonedAfter = 90 * time.Second

func (w *world) released(m *machine, c plugintest.Call) {
	var r ipam.AddressRelease
	if err := json.Unmarshal([]byte(c.Body), &r); err != nil {
		w.wrong("%s releases %q: %v", m, c.Body, err)
	}
	addr, _, _ := strings.Cut(r.Address, "/")
	if h := w.held[addr]; h.m == m && h.container == c.Container {
		delete(w.held, addr)
	}
}
