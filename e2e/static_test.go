package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationStaticAddressMatrix: --ip with an address in a block of the same host, in no block,
// and in a block of another host, each free and held. Then the address moves between hosts.
func TestIntegrationStaticAddressMatrix(t *testing.T) {
	long(t)
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	name := s.network(one, "cases", "--subnet", "10.72.16.0/24", "-o", "weft.block=/27")
	boxes := s.runOnAll(name, "box")
	near := func(b box, n byte) string { // an address of the same block
		a := b.addr.As4()
		a[3] = a[3]&^31 | n
		return netip.AddrFrom4(a).String()
	}
	// Free addresses: in a block of the host itself, in no block, in a block of another host.
	own := s.runAt(one, name, "own", near(boxes[0], 20))
	nobody := s.runAt(one, name, "nobody", "10.72.16.200")
	other := s.runAt(two, name, "other", near(boxes[0], 21))
	s.matrix(append(boxes, own, nobody, other)...)

	// Held addresses, requested on each host.
	for _, held := range []box{own, nobody, other} {
		for _, h := range s.members() {
			words := []string{held.addr.String(), "held", held.name}
			if h.Number() != held.host.Number() {
				words = append(words, held.host.Name())
			}
			twin := fmt.Sprintf("twin-%s-%s", held.name, h.Name())
			s.refused(h, words, s.command(h, name, twin, "--ip", held.addr.String())...)
			s.docker(h, "rm", "-f", s.name(twin))
		}
	}

	// Moved addresses: the container is stopped on one host and started on the next one, and back.
	for _, moving := range []box{own, nobody, other} {
		addr := moving.addr.String()
		for i, h := range []*lab.Host{two, three, one} {
			s.docker(moving.host, "rm", "-f", moving.name)
			moving = s.runAt(h, name, fmt.Sprintf("%s-moved%d", strings.TrimPrefix(moving.name, s.prefix), i), addr)
			s.reach(boxes[0], moving.addr)
			s.reach(boxes[2], moving.addr)
		}
		// Started on the next host first: it is refused until the old one is stopped.
		next := s.name("next-" + addr)
		args := s.command(two, name, "next-"+addr, "--ip", addr)
		args[0] = "create"
		s.docker(two, slices.DeleteFunc(args, func(a string) bool { return a == "-d" })...)
		s.refused(two, []string{addr, "held", one.Name(), moving.name}, "start", next)
		s.docker(one, "stop", "-t", "0", moving.name)
		s.docker(two, "start", next)
		s.reach(boxes[0], moving.addr)
		s.refused(one, []string{addr, "held", two.Name(), next}, "start", moving.name)
		s.docker(two, "rm", "-f", next)
		s.docker(one, "start", moving.name)
		s.reach(boxes[1], moving.addr)
	}
}

// runAt starts a container with --ip.
func (s *scene) runAt(h *lab.Host, network, name, addr string) box {
	s.t.Helper()
	b := s.run(h, network, name, "--ip", addr)
	if b.addr.String() != addr {
		s.t.Errorf("%s on %s asked for %s and has %s", b.name, h.Name(), addr, b.addr)
	}
	return b
}

// TestIntegrationStaticOutsideTheRange: an address of the subnet outside of --ip-range goes
// only to a container that asks for it.
func TestIntegrationStaticOutsideTheRange(t *testing.T) {
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	name := s.network(one, "outside", "--subnet", "10.72.32.0/20", "--ip-range", "10.72.33.0/24")
	const addr = "10.72.40.1"
	s.runAt(one, name, "first", addr)
	for _, h := range s.members() {
		s.refused(h, []string{addr, "held", s.name("first")}, s.command(h, name, "twin-"+h.Name(), "--ip", addr)...)
	}
	s.docker(one, "rm", "-f", s.name("first"))
	second := s.runAt(two, name, "second", addr)
	s.docker(two, "rm", "-f", second.name)
	third := s.runAt(three, name, "third", addr)
	s.matrix(third, s.run(one, name, "inside"))
}

// TestIntegrationSharedUntilItsLastAddress: three hosts use up a /28, whichever hosts own its blocks.
// The next container is refused with a list of what each host holds. An address that one host frees,
// another host can hand out at once.
func TestIntegrationSharedUntilItsLastAddress(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "tight", "--subnet", "10.72.48.0/28", "--gateway", "10.72.48.1")
	var boxes []box
	for i := range 13 { // 16 less the edges and the gateway
		boxes = append(boxes, s.run(s.members()[i%members], name, fmt.Sprintf("box%d", i)))
	}
	s.unique(boxes...)
	for _, h := range s.members() {
		much := "much-" + h.Name()
		s.refused(h, []string{"10.72.48.0/28", "host1", "host2", "host3"}, s.command(h, name, much)...)
		s.docker(h, "rm", "-f", s.name(much))
	}
	for i := range s.members() {
		freed := boxes[i]
		s.docker(freed.host, "rm", "-f", freed.name)
		next := s.members()[(i+1)%members]
		heir := s.run(next, name, "heir-"+next.Name())
		if heir.addr != freed.addr {
			t.Errorf("%s got %s, only %s of %s was free", heir.name, heir.addr, freed.addr, freed.host.Name())
		}
		boxes[i] = heir
	}
	s.unique(boxes...)
	s.matrix(boxes[:4]...)
}

// TestIntegrationStoppedStaticAddressIsLast: the address of a stopped --ip container goes to
// another one, on any host, only when no other address of the subnet is left.
func TestIntegrationStoppedStaticAddressIsLast(t *testing.T) {
	long(t)
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	const subnet, others = "10.72.80.0/28", 12 // 16 less the edges, the gateway and the one that is kept
	name := s.network(one, "last", "--subnet", subnet, "--gateway", "10.72.80.1")
	boxes := []box{s.run(one, name, "box0")}
	static := s.runAt(one, name, "static", boxes[0].addr.Next().String()) // of the same block
	s.docker(one, "stop", "-t", "0", static.name)
	for n := 1; n < others; n++ {
		b := s.run([]*lab.Host{one, two}[n%2], name, fmt.Sprintf("box%d", n))
		if boxes = append(boxes, b); b.addr == static.addr {
			t.Fatalf("container %d of %d got %s, which a stopped container asked for", n+1, others, b.addr)
		}
	}
	s.docker(one, "start", static.name)
	s.reach(boxes[others-1], static.addr)

	s.docker(one, "stop", "-t", "0", static.name)
	if b := s.run(two, name, "last"); b.addr != static.addr {
		t.Errorf("with all others in use a container got %s, want %s", b.addr, static.addr)
	}
}

// TestIntegrationStaticAddressesSurviveDockerRestarts: of many containers that dockerd starts
// at once, in any order, those with --ip find their addresses free, again and again.
func TestIntegrationStaticAddressesSurviveDockerRestarts(t *testing.T) {
	long(t)
	s := onSpares(t)
	h := s.lend(1)[0]
	must(t, h.InstallPlugin(t.Context(), s.plugin))
	name := s.name("restarts")
	s.docker(h, s.create(h, "restarts", "--subnet", "10.72.81.0/24")...)
	var all, static []box
	for n := range 10 {
		b := s.run(h, name, fmt.Sprintf("box%d", n), "--restart", "always")
		if n%2 > 0 { // in between those that ask for none
			addr := b.addr.String()
			s.docker(h, "rm", "-f", b.name)
			b = s.run(h, name, fmt.Sprintf("static%d", n), "--restart", "always", "--ip", addr)
			static = append(static, b)
		}
		all = append(all, b)
	}
	for range 2 {
		must(t, h.RestartDocker(t.Context()))
		for _, b := range all {
			s.back(h, b.name)
		}
		for _, b := range static {
			if got := s.addr(h, b.name, name); got != b.addr {
				t.Errorf("%s asked for %s and has %s", b.name, b.addr, got)
			}
		}
	}
}

// TestIntegrationAnAddressInUseIsNotHandedOut: an address that a container has added itself is refused on every host, also on one without
// containers on the network, and the next container gets another.
func TestIntegrationAnAddressInUseIsNotHandedOut(t *testing.T) {
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	name := s.network(one, "virtual", "--subnet", "10.64.56.0/24")
	lb := s.run(one, name, "lb", "--cap-add", "NET_ADMIN")
	s.run(two, name, "other")
	virtual := lb.addr.Next()
	_, err := lb.exec(t.Context(), "ip", "addr", "add", virtual.String()+"/24", "dev", "eth0")
	must(t, err)
	for _, h := range []*lab.Host{one, two, three} {
		s.refused(h, []string{virtual.String(), "in use by container " + lb.name + " on host " + one.Name(), "choose another --ip"}, s.command(h, name, "thief-"+h.Name(), "--ip", virtual.String())...)
	}
	if next := s.run(one, name, "next"); next.addr != virtual.Next() {
		t.Errorf("the next container got %s, want %s after %s, which is in use", next.addr, virtual.Next(), virtual)
	}
	_, err = lb.exec(t.Context(), "ip", "addr", "del", virtual.String()+"/24", "dev", "eth0")
	must(t, err)
	s.matrix(s.runAt(three, name, "owner", virtual.String()), lb)
}
