package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/turn"
)

// roughExcuses are acceptable errors of a command while Docker itself is killed, its plugin disabled and the
// ledger without a majority.
var roughExcuses = []excuse{
	{"Docker did not run", regexp.MustCompile(`Cannot connect to the Docker daemon|error during connect|: EOF|connection reset by peer|broken pipe|context canceled|daemon is shutting down`)},
	{"the plugin was disabled", regexp.MustCompile(`plugin "?weftnet/weft:latest"? (not found|is disabled|found but disabled)|plugin weftnet/weft:latest .*disabled`)},
	{"a decision took too long without a majority", regexp.MustCompile(`had no answer within 4\.5s; look at weft status, and try again`)},
	{"the container had ended with dockerd", regexp.MustCompile(`is not running|No such container|is not connected to`)},
}

// whose is the host of a tenant.
func whose(tenant string) string {
	_, host, _ := strings.Cut(tenant, " on ")
	return host
}

// life is what one host's Docker is told to do by its users.
type life struct {
	*chaos
	h     *lab.Host
	r     *rand.Rand
	mine  []string // containers
	epoch int
	n     int
}

// churn starts, restarts, moves and removes containers and networks on a host until the chaos is over.
func (c *chaos) churn(h *lab.Host, r *rand.Rand) {
	l := life{chaos: c, h: h, r: r}
	for l.n == 0 || !c.over() {
		if l.stale() { // they have ended
			l.removeAll()
			l.epoch = c.now()
		}
		l.round()
	}
	if l.stale() {
		l.removeAll()
	}
}

// stale reports whether the containers have ended with dockerd.
func (l *life) stale() bool { return l.h == l.frail && l.now() != l.epoch }

// now is how often the containers of the frail host have ended.
func (c *chaos) now() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// habits are what users do. A host's do all of it in some order, and then again.
var habits = []struct {
	name string
	do   func(l *life, name string) bool
}{
	{"container started", func(l *life, _ string) bool { return l.start() }},
	{"container started", func(l *life, _ string) bool { return l.start() }},
	{"container started with --ip", func(l *life, _ string) bool {
		a := l.subnet.Addr().As4()
		a[3] += byte(2 + l.r.IntN(200))
		return l.start("--ip", netip.AddrFrom4(a).String())
	}},
	{"container removed", func(*life, string) bool { return false }},
	{"container removed", func(*life, string) bool { return false }},
	{"container restarted", func(l *life, name string) bool {
		return l.moves(name, l.network, []string{"restart", "-t", "0", name})
	}},
	{"container stopped and started", func(l *life, name string) bool {
		return l.moves(name, l.network, []string{"stop", "-t", "0", name}, []string{"start", name})
	}},
	{"container disconnected and connected", func(l *life, name string) bool {
		return l.moves(name, l.network, []string{"network", "disconnect", l.network, name}, []string{"network", "connect", l.network, name})
	}},
	{"container on a second network", func(l *life, name string) bool {
		ok := l.moves(name, l.other, []string{"network", "connect", l.other, name})
		l.forget(name, l.other)
		return ok && l.order(l.h, "network", "disconnect", l.other, name)
	}},
	{"network created and removed", func(l *life, _ string) bool { l.shortLived(); return true }},
}

// round does all habits once, in some order, each to some container.
func (l *life) round() {
	for _, i := range l.r.Perm(len(habits)) {
		if l.stale() || l.over() && l.n >= len(habits) {
			return
		}
		l.n++
		l.tally(habits[i].name)
		if len(l.mine) == 0 && !l.start() {
			continue
		}
		name := l.mine[l.r.IntN(len(l.mine))]
		if !habits[i].do(l, name) {
			l.remove(name)
		}
	}
	for len(l.mine) > stormBoxes {
		l.remove(l.mine[0])
	}
}

// start starts a container of its own with these options.
func (l *life) start(options ...string) bool {
	own := fmt.Sprintf("c%d-%d-%d", l.h.Number(), l.n, len(l.mine))
	args := l.command(l.h, l.network, own, options...)
	if l.order(l.h, append(args[:len(args)-3], "probe", "serve")...) && l.note(l.name(own), l.network) {
		l.mine = append(l.mine, l.name(own))
	} else {
		l.remove(l.name(own))
	}
	return len(l.mine) > 0
}

// moves gives commands after which a container may have another address on a network.
func (l *life) moves(name, network string, commands ...[]string) bool {
	l.forget(name, network)
	for _, args := range commands {
		if !l.order(l.h, args...) {
			return false
		}
	}
	return l.note(name, network)
}

func (l *life) who(name, network string) string {
	return fmt.Sprintf("%s of %s on %s", name, network, l.h.Name())
}

// note notes which address a container was given, unless the container may have ended meanwhile.
func (l *life) note(name, network string) bool {
	a, err := addrOf(l.t.Context(), l.h, name, network)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.h == l.frail && l.chaos.epoch != l.epoch { // stale
		return false
	}
	if err != nil {
		return false // Docker did not run; order has said what it answered
	}
	who := l.who(name, network)
	if other, taken := l.tenants[a]; taken {
		l.wrong = append(l.wrong, fmt.Sprintf("%s was given to %s while %s has it", a, who, other))
	}
	l.tenants[a] = who
	return true
}

// forget notes that a container may lose its address on a network.
func (l *life) forget(name, network string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, who := range l.tenants {
		if who == l.who(name, network) {
			delete(l.tenants, a)
		}
	}
}

// removedWithin is how long Docker may refuse to remove a container: it is not there for some seconds, and then it
// waits for a plugin that is disabled, 15 s at each of its calls.
const removedWithin = 3 * time.Minute

// remove removes a container, however long Docker refuses it.
func (l *life) remove(name string) {
	l.forget(name, l.network)
	l.forget(name, l.other)
	l.mine = slices.DeleteFunc(l.mine, func(n string) bool { return n == name })
	var said error
	for end := time.Now().Add(removedWithin); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(l.t.Context(), removedWithin)
		_, err := l.h.Docker(ctx, "rm", "-f", name)
		cancel()
		if err == nil || strings.Contains(err.Error(), "No such container") {
			l.tally("docker rm")
			return
		}
		said = err
		if !turn.Sleep(l.t.Context(), time.Second) {
			return
		}
	}
	l.accuse("%s does not go: %v", name, said)
}

func (l *life) removeAll() {
	for len(l.mine) > 0 {
		l.remove(l.mine[0])
	}
}

// shortLived makes a network with a container and removes both. Until it is gone from all hosts no dockerd is ended:
// one that ends while it removes a network may never start again (moby: a panic in reservePools, seen on 20.10).
func (l *life) shortLived() {
	l.removing.RLock()
	defer l.removing.RUnlock()
	own := fmt.Sprintf("n%d-%d", l.h.Number(), l.n)
	network, name := l.name(own), l.name(own+"-box")
	l.mu.Lock()
	l.made = append(l.made, made{l.h, network})
	l.mu.Unlock()
	if !l.order(l.h, "network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName, network) {
		return
	}
	l.order(l.h, "run", "-d", "--name", name, "--net", network, lab.BusyBoxImage, "probe", "serve")
	l.remove(name)
	l.order(l.h, "network", "rm", network)
	_ = await(l.t.Context(), 2*cutFor, func(ctx context.Context) error { return l.noneLeft(ctx, network) }) // checked at the end
}
