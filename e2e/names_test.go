package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// lookup asks the resolver of a container for the addresses of a name, with the client of BusyBox.
func (b box) lookup(ctx context.Context, name string) ([]string, error) {
	out, err := b.exec(ctx, "nslookup", name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	_, answer, _ := strings.Cut(out, "\n\n")
	var addrs []string
	for line := range strings.Lines(answer) {
		if addr, ok := strings.CutPrefix(strings.TrimSpace(line), "Address"); ok {
			_, addr, _ = strings.Cut(addr, ": ")
			addrs = append(addrs, strings.Fields(addr)[0])
		}
	}
	slices.Sort(addrs)
	return addrs, nil
}

// resolves waits until a container finds a name at these addresses and no others.
func (s *scene) resolves(from box, name string, want ...string) {
	s.t.Helper()
	s.resolvesWithin(healWithin, from, name, want...)
}

func (s *scene) resolvesWithin(limit time.Duration, from box, name string, want ...string) {
	s.t.Helper()
	slices.Sort(want)
	eventually(s.t, limit, func(ctx context.Context) error {
		got, err := from.lookup(ctx, name)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%s on %s finds %s at %q, want %q", from.name, from.host.Name(), name, got, want)
		}
		return err
	})
}

// TestIntegrationNames: a container finds those of all hosts by name, alias, hostname and short id, alone and with
// the network and the domain behind it.
func TestIntegrationNames(t *testing.T) {
	s := onMembers(t)
	network := s.network(s.lab.Host(1), "names")
	db := s.run(s.lab.Host(1), network, "db", "--network-alias", "store")
	other := s.run(s.lab.Host(2), network, "other", "--network-alias", "store")
	client := s.run(s.lab.Host(3), network, "client")
	id := s.docker(db.host, "inspect", "-f", "{{.Id}}", db.name)[:12]
	for _, name := range []string{db.name, "db", id} {
		for _, suffix := range []string{"", "." + network, "." + network + ".weft.local", ".weft.local"} {
			s.resolves(client, name+suffix, db.addr.String())
		}
	}
	s.resolves(client, "store", db.addr.String(), other.addr.String())
	s.resolves(db, "store", db.addr.String(), other.addr.String())
	s.resolves(client, "host1.hosts.weft.local", s.own(s.lab.Host(1), network).String())
	s.weftDoes(client.host, []string{db.addr.String(), db.name, "container name", "Docker's resolver: "}, "dns", "lookup", db.name+".weft.local", "--network", network, "--trace")
	s.weftDoes(db.host, []string{"printer is 192.0.2.9"}, "dns", "add", "printer", "192.0.2.9", "--network", network)
	s.resolves(client, "printer", "192.0.2.9")
	s.weftDoes(client.host, []string{"printer", "added by hand", db.name, "alias"}, "dns", "ls", "--network", network)
	s.weftDoes(other.host, []string{"removed"}, "dns", "rm", "printer", "--network", network)
	s.docker(db.host, "rm", "-f", db.name)
	s.resolves(client, "store", other.addr.String())
	if addrs, err := client.lookup(t.Context(), "db.weft.local"); err == nil {
		t.Errorf("a container that was removed is found at %q", addrs)
	}
}

// firstQueries is how many containers TestIntegrationTheFirstQuery starts; WEFT_FIRST_QUERIES has another number.
const firstQueries = 12

// startedAtOnce is how many it starts at once afterwards. How many of these are answered is only told.
const startedAtOnce = 16

// TestIntegrationTheFirstQuery: the first thing that a container does is to ask for a name of another host.
func TestIntegrationTheFirstQuery(t *testing.T) {
	count, _ := strconv.Atoi(os.Getenv("WEFT_FIRST_QUERIES"))
	count = max(count, firstQueries)
	s := onMembers(t)
	network := s.network(s.lab.Host(1), "first")
	db := s.run(s.lab.Host(1), network, "db")
	s.resolves(s.run(s.lab.Host(2), network, "warm"), "db", db.addr.String())
	wrong := 0
	for range count {
		out, err := s.lab.Host(2).Docker(t.Context(), "run", "--rm", "--net", network, lab.BusyBoxImage, "nslookup", "db")
		if err != nil || !strings.Contains(out, db.addr.String()) {
			wrong++
			t.Logf("the answer is %q (%v)", out, err)
		}
	}
	t.Logf("%d of %d first queries were answered wrong", wrong, count)
	if wrong > 0 {
		t.Error("want none on an idle host")
	}
	var late atomic.Int32
	var all sync.WaitGroup
	for range startedAtOnce {
		all.Go(func() {
			out, err := s.lab.Host(2).Docker(t.Context(), "run", "--rm", "--net", network, lab.BusyBoxImage, "nslookup", "db")
			if err != nil || !strings.Contains(out, db.addr.String()) {
				late.Add(1)
			}
		})
	}
	all.Wait()
	t.Logf("%d of %d first queries were answered wrong, of containers started at once", late.Load(), startedAtOnce)
}

// asking asks for a name in a container every 100 ms for some time, with a socket for each question or with one for
// all, also while Docker does not run. What it returns waits until that has passed, and has which answers there
// were, and when.
func (s *scene) asking(from box, name string, keep bool, length time.Duration) (end func() []probe.Span) {
	done := make(chan error, 1)
	var spans []probe.Span
	go func() {
		out, err := from.inside(s.t.Context(), filepath.Join(shared.dir, "probe"), "names", "-for", length.String(), "-keep="+strconv.FormatBool(keep), name)
		if err == nil {
			err = json.Unmarshal([]byte(out), &spans)
		}
		done <- err
	}()
	return func() []probe.Span {
		must(s.t, <-done)
		return spans
	}
}

// answers checks that there was no other answer than these, that the last is the first of them, and that no time
// without it was longer than said.
func (s *scene) answers(what string, spans []probe.Span, gap time.Duration, allowed ...string) {
	s.t.Helper()
	lost := time.Duration(0)
	for _, span := range spans {
		if !slices.Contains(allowed, span.Answer) {
			s.t.Errorf("%s: the answer is %s, from %s to %s", what, span.Answer, span.Since, span.Until)
		}
		if span.Answer != allowed[0] {
			lost = max(lost, span.Until.Sub(span.Since))
		}
	}
	if last := spans[len(spans)-1].Answer; last != allowed[0] || lost > gap {
		s.t.Errorf("%s: %s without the right answer, want at most %s; the last answer is %s", what, lost, gap, last)
	}
	s.t.Logf("%s: longest time without the right answer %s", what, lost)
}

// pair makes a cluster of two spare hosts with one network, made with these arguments.
func (s *scene) pair(name string, args ...string) (a, b *lab.Host, network string) {
	s.t.Helper()
	a, b = s.borrow()
	must(s.t, a.InstallPlugin(s.t.Context(), s.plugin))
	must(s.t, b.InstallPlugin(s.t.Context(), s.plugin, "WEFT_JOIN="+a.Addr4().String()))
	s.docker(a, s.create(a, name, args...)...)
	eventually(s.t, spreadWithin, has(b, s.name(name)))
	return a, b, s.name(name)
}

// TestIntegrationNamesWithoutAnAgent: when the agent is gone, names are Docker's within 15 s; when it is back, the
// cluster's; both also for clients that keep their sockets.
func TestIntegrationNamesWithoutAnAgent(t *testing.T) {
	s := onSpares(t)
	a, b, network := s.pair("gone")
	far := s.run(a, network, "far")
	near := s.run(b, network, "near")
	client := s.run(b, network, "client")
	s.resolves(client, far.name, far.addr.String())
	s.resolves(client, near.name, near.addr.String())
	const length = 40 * time.Second
	fresh, kept := s.asking(client, near.name, false, length), s.asking(client, near.name, true, length)
	remote := s.asking(client, far.name, true, length)
	s.docker(b, "plugin", "disable", "-f", lab.PluginName)
	// Docker's resolver has no other server in the lab, so its own names are what it can answer.
	s.resolvesWithin(25*time.Second, client, near.name, near.addr.String())
	s.docker(b, "plugin", "enable", lab.PluginName)
	back := time.Now()
	s.resolves(client, far.name, far.addr.String())
	// 15 s after the last refresh, and the question that waits for a second then.
	s.answers("Docker's own name", fresh(), 16500*time.Millisecond, near.addr.String(), "silence", "refused")
	s.answers("the same with one socket", kept(), 16500*time.Millisecond, near.addr.String(), "silence", "refused")
	spans := remote()
	s.answers("a name of the cluster", spans, length, far.addr.String(), "silence", "refused", "SERVFAIL", "NXDOMAIN")
	for _, span := range spans {
		if late := span.Until.Sub(back); span.Answer != far.addr.String() && late > backWithin {
			t.Errorf("the name of the cluster is answered %s %s after the agent is back, want at most %s", span.Answer, late, backWithin)
		}
	}
}

// backWithin is how long names of the cluster may be missing after Docker has enabled the plugin.
const backWithin = 3 * time.Second

// TestIntegrationNamesAfterAPartition: two hosts do not hear each other while a container is renamed on one and
// another one gets another address on the other. Afterwards both answer what is so now, and who has heard of the new
// address never answers the old one again.
func TestIntegrationNamesAfterAPartition(t *testing.T) {
	s := onSpares(t)
	a, b, network := s.pair("parted", "--subnet", "10.73.0.0/24")
	renamed := s.run(a, network, "renamed", "--network-alias", "store")
	moved := s.run(b, network, "moved", "--network-alias", "store")
	before, old := renamed.name, moved.addr.String()
	for _, from := range []box{renamed, moved} {
		s.resolves(from, "store", renamed.addr.String(), old)
	}

	cut := lab.Between(a.Number(), b.Number())
	t.Cleanup(func() { _ = s.lab.Heal(context.WithoutCancel(t.Context()), cut) })
	must(t, s.lab.Cut(t.Context(), cut))
	renamed.name += "-now"
	s.docker(a, "rename", before, renamed.name)
	s.docker(b, "stop", "-t", "0", moved.name)
	s.run(b, network, "heir", "--ip", old)
	s.docker(b, "start", moved.name)
	moved.addr = s.addr(b, moved.name, network)
	s.answered(renamed, renamed.name, renamed.addr.String())
	s.answered(moved, moved.name, moved.addr.String())
	if got, err := moved.ask(t.Context(), before+".weft.local"); err == nil && got != renamed.addr.String() && got != "NXDOMAIN" {
		t.Errorf("behind the cut the name of a container that was renamed is answered %s", got) // NXDOMAIN: its host is declared down
	}

	seen := s.asking(renamed, moved.name, false, 2*healWithin)
	must(t, s.lab.Heal(t.Context(), cut))
	for _, from := range []box{renamed, moved} {
		s.resolvesWithin(2*healWithin, from, "store", renamed.addr.String(), moved.addr.String())
		s.answered(from, renamed.name, renamed.addr.String())
		s.answered(from, before+".weft.local", "NXDOMAIN")
		s.answered(from, moved.name, moved.addr.String())
	}
	heard := false
	for _, span := range seen() {
		if heard = heard || span.Answer == moved.addr.String(); heard && span.Answer != moved.addr.String() {
			t.Errorf("after the new address the answer is %s, from %s to %s", span.Answer, span.Since, span.Until)
		}
	}
	if !heard {
		t.Errorf("the new address was never answered under the stream")
	}
}

// TestIntegrationNamesWhileAgentsAreKilled: the agent is killed again and again under a stream of questions. No answer
// is wrong, and there is one again as soon as Docker has started the agent.
func TestIntegrationNamesWhileAgentsAreKilled(t *testing.T) {
	s := onSpares(t)
	a, b, network := s.pair("killed")
	far, client := s.run(a, network, "far"), s.run(b, network, "client")
	s.resolves(client, "far", far.addr.String())
	const length = 24 * time.Second
	fresh, kept := s.asking(client, "far", false, length), s.asking(client, "far", true, length)
	for began := time.Now(); time.Since(began) < length/2; { // no kill so late that the stream ends in its silence
		must(t, b.KillAgent(t.Context()))
		s.resolves(client, "far", far.addr.String())
	}
	s.answers("a name of the cluster", fresh(), 6*time.Second, far.addr.String(), "silence", "refused")
	s.answers("the same with one socket", kept(), 6*time.Second, far.addr.String(), "silence", "refused")
}
