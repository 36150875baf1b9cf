package dns

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	wire "github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

// Few words, so that everything is called like something else.
var (
	modelWords    = []string{"a", "b", "A", "a.b", "b.n", "n", "m", "hosts", "a.hosts", "a..b", "x y"}
	modelNetworks = []string{"n", "m", "b.n", "hosts", "n.m", ""}
	modelHosts    = []string{"a", "b", "a.b", "bad host"}
)

// cluster is the facts of a model run.
type cluster struct {
	hosts     map[int]netmap.HostView
	networks  map[int]netmap.Network
	endpoints map[[3]int]netmap.EndpointView // by network, host and number
	byHand    map[netmap.StaticName]bool
	down      map[netmap.HostID]bool
}

func (c *cluster) view() *netmap.View {
	v := &netmap.View{}
	for _, i := range slices.Sorted(maps.Keys(c.hosts)) {
		v.Hosts = append(v.Hosts, c.hosts[i])
	}
	for _, i := range slices.Sorted(maps.Keys(c.networks)) {
		v.Networks = append(v.Networks, c.networks[i])
	}
	v.StaticNames = slices.SortedFunc(maps.Keys(c.byHand), netmap.StaticName.Compare)
	return v.WithEndpoints(slices.Collect(maps.Values(c.endpoints))...)
}

func (c *cluster) step(t *rapid.T) {
	n, h, i := rapid.IntRange(1, 3).Draw(t, "network"), rapid.IntRange(1, 3).Draw(t, "host"), rapid.IntRange(1, 2).Draw(t, "endpoint")
	host := netmap.HostID{byte(h)}
	aWord := rapid.SampledFrom(append([]string{""}, modelWords...))
	switch rapid.IntRange(0, 8).Draw(t, "step") {
	case 0:
		delete(c.hosts, h)
	case 1:
		fact := netmap.HostFact{Name: rapid.SampledFrom(modelHosts).Draw(t, "name"), Underlay: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 0, byte(h)}), 1)}
		c.hosts[h] = netmap.HostView{ID: host, Fact: fact, Entry: netmap.HostEntry{ID: host, Removed: rapid.IntRange(0, 4).Draw(t, "removed") == 0}}
	case 2:
		delete(c.networks, n)
	case 3:
		w := netmap.Network{ID: netmap.NetworkID(n), Name: rapid.SampledFrom(modelNetworks).Draw(t, "name"), Retired: rapid.IntRange(0, 4).Draw(t, "retired") == 0}
		w.Subnets = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n)}), 16), netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(n)}), 64)}
		c.networks[n] = w
	case 4:
		delete(c.endpoints, [3]int{n, h, i})
	case 8:
		s := netmap.StaticName{Network: netmap.NetworkID(n), Name: rapid.SampledFrom([]string{"a", "b", "a.b", "n"}).Draw(t, "by hand"), Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(h)})}
		if c.byHand[s] = !c.byHand[s]; !c.byHand[s] {
			delete(c.byHand, s)
		}
	case 5:
		c.down[host] = !c.down[host]
	default:
		e := netmap.EndpointView{Host: host, Endpoint: netmap.Endpoint{ID: netmap.EndpointID(rune('0' + i)), Network: netmap.NetworkID(n)}}
		e.V4 = netip.AddrFrom4([4]byte{10, byte(rapid.SampledFrom([]int{n, n, n, 9}).Draw(t, "subnet")), byte(h), byte(i)})
		if rapid.Bool().Draw(t, "v6") {
			e.V6 = netip.AddrFrom16([16]byte{0: 0xfd, 1: byte(n), 14: byte(h), 15: byte(i)})
		}
		if rapid.IntRange(0, 5).Draw(t, "named") > 0 {
			e.Names = &netmap.EndpointName{
				Name: rapid.SampledFrom(modelWords).Draw(t, "name"), Aliases: rapid.SliceOfN(rapid.SampledFrom(modelWords), 0, 2).Draw(t, "aliases"),
				Hostname: aWord.Draw(t, "hostname"), Short: aWord.Draw(t, "short"), App: rapid.SampledFrom([]string{"", "/n/a", "b"}).Draw(t, "app"),
				Unhealthy: rapid.Bool().Draw(t, "unhealthy"), Services: []netmap.Service{{Port: uint16(i), Protocol: netmap.TCP}},
			}
		}
		c.endpoints[[3]int{n, h, i}] = e
	}
}

// questions are all that could be asked.
func questions() (out []string) {
	for _, w := range modelWords {
		for _, n := range append(modelNetworks, "nowhere", "hosts") {
			out = append(out, strings.Trim(w+"."+n, "."), w+"."+n+".weft.local", w+".weft.local", w, w+n, w+"weft.local")
		}
	}
	out = append(out, "weft.local", "n.weft.local", "local")
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(name string) bool { return strings.Contains(name, " ") || strings.Contains(name, "..") })
}

// naive is the answer to a question for addresses, by the rules and from the whole view.
func (c *cluster) naive(cfg Config, from Asker, name string, v6 bool) string {
	if name == cfg.Domain {
		return "nodata"
	}
	asked, under := strings.CutSuffix(strings.ToLower(name), "."+cfg.Domain)
	if host, is := strings.CutSuffix("."+asked, ".hosts"); under && is {
		return c.naiveHosts(host, v6)
	}
	answered, exists := c.naiveBearers(cfg, from, asked)
	for short, networks := range answered {
		networks = slices.DeleteFunc(networks, func(who []netmap.EndpointView) bool { return len(who) == 0 })
		if short == 1 && from.Everything && len(networks) > 1 {
			exists = true
			break
		}
		if len(networks) > 0 {
			return joined(c.naiveAddrs(cfg, slices.Concat(networks...), v6))
		}
	}
	switch {
	case !under:
		return "pass"
	case exists:
		return "nodata"
	}
	return "nxdomain"
}

// joined are the addresses of a name that exists.
func joined(addrs []string) string {
	slices.Sort(addrs)
	if len(addrs) == 0 {
		return "nodata"
	}
	return strings.Join(addrs, " ")
}

// naiveHosts answers for .NAME of hosts; it is empty for all of them.
func (c *cluster) naiveHosts(name string, v6 bool) string {
	exists := name == ""
	var addrs []string
	for _, h := range c.hosts {
		called := "." + strings.ToLower(h.Fact.Name)
		if h.Entry.Removed || netmap.NameProblem(h.Fact.Name) != "" {
			continue
		}
		exists = exists || strings.HasSuffix(called, name)
		if called == name && !v6 {
			addrs = append(addrs, h.Fact.Underlay.Addr().String())
		}
	}
	if exists {
		return joined(addrs)
	}
	return "nxdomain"
}

// naiveBearers are those who have a name by name.network, and by their short name, of each
// network that is seen; and whether there are names beneath it.
func (c *cluster) naiveBearers(cfg Config, from Asker, asked string) (answered [2][][]netmap.EndpointView, exists bool) {
	var seen []netmap.Network
	for _, id := range from.Networks {
		seen = append(seen, c.networks[int(id)])
	}
	if from.Everything {
		seen = slices.Collect(maps.Values(c.networks))
	}
	for _, w := range seen {
		named := w.Name != "" && !w.Retired
		if named && strings.HasSuffix("."+w.Name, "."+asked) {
			exists = true
		}
		if base, ok := strings.CutSuffix(asked, "."+w.Name); ok && named {
			who, beneath := c.bearers(cfg, w, base)
			exists = exists || beneath
			answered[0] = append(answered[0], who)
		}
		who, beneath := c.bearers(cfg, w, asked)
		exists = exists || beneath
		answered[1] = append(answered[1], who)
	}
	return answered, exists
}

// naiveAddrs are the addresses of those who have a name: of those that are not healthy only if
// there is no other.
func (c *cluster) naiveAddrs(cfg Config, all []netmap.EndpointView, v6 bool) []string {
	var healthy, ill []string
	for _, e := range all {
		addr := e.V4
		if v6 {
			addr = e.V6
		}
		switch w := c.networks[int(e.Network)]; {
		case e.Names == nil && addr.IsValid(): // by hand
			if !slices.Contains(healthy, addr.String()) {
				healthy = append(healthy, addr.String())
			}
		case !slices.ContainsFunc(w.Subnets, func(p netip.Prefix) bool { return p.Contains(addr) }):
		case cfg.Health && e.Names.Unhealthy:
			ill = append(ill, addr.String())
		default:
			healthy = append(healthy, addr.String())
		}
	}
	if len(healthy) == 0 {
		return ill
	}
	return healthy
}

// bearers are those on a network who have a name by the first source, and whether there are
// names beneath it.
func (c *cluster) bearers(cfg Config, w netmap.Network, name string) (who []netmap.EndpointView, beneath bool) {
	for _, source := range []func(*netmap.EndpointName) []string{
		func(n *netmap.EndpointName) []string { return []string{n.Name} },
		func(n *netmap.EndpointName) []string { return n.Aliases },
		func(n *netmap.EndpointName) []string { return []string{n.Hostname, n.Short} },
		func(n *netmap.EndpointName) []string {
			if app, in := strings.CutPrefix(n.App, "/n/"); in {
				return []string{app + ".n", app + "-n"}
			}
			return []string{n.App}
		},
	} {
		var here []netmap.EndpointView
		for _, e := range c.endpoints {
			if e.Network != w.ID || e.Names == nil {
				continue
			}
			for _, called := range source(e.Names) {
				if called = strings.ToLower(called); netmap.NameProblem(called) != "" {
					continue
				}
				beneath = beneath || strings.HasSuffix(called, "."+name)
				inside := func(p netip.Prefix) bool { return p.Contains(e.V4) || p.Contains(e.V6) }
				if called == name && cfg.Alive(e.Host) && slices.ContainsFunc(w.Subnets, inside) {
					here = append(here, e)
					break
				}
			}
		}
		if len(who) == 0 {
			who = here
		}
	}
	for s := range c.byHand {
		beneath = beneath || s.Network == w.ID && strings.HasSuffix(s.Name, "."+name)
		if s.Network == w.ID && s.Name == name && (len(who) == 0 || who[0].Names == nil) {
			who = append(who, netmap.EndpointView{Endpoint: netmap.Endpoint{Network: s.Network, V4: s.Addr}})
		}
	}
	return who, beneath
}

// TestAnswersAreThoseOfTheRules: after any changes, Names answers what the rules say, and what
// Names answers that was made from the view as a whole.
func TestAnswersAreThoseOfTheRules(t *testing.T) {
	all := questions()
	askers := []Asker{{Networks: []netID{1}}, {Networks: []netID{2, 1}}, {Networks: []netID{3, 2, 1}}, {Everything: true}, {}}
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{map[int]netmap.HostView{}, map[int]netmap.Network{}, map[[3]int]netmap.EndpointView{}, map[netmap.StaticName]bool{}, map[netmap.HostID]bool{}}
		cfg := Config{Domain: "weft.local", TTL: time.Second, Marathon: true, Health: rapid.Bool().Draw(t, "health")}
		cfg.Alive = func(id netmap.HostID) bool { return !c.down[id] }
		n := New(cfg)
		var last *netmap.View
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			for range rapid.IntRange(1, 12).Draw(t, "steps") {
				c.step(t)
			}
			view := c.view()
			n.Apply(view, view.Since(last))
			last = view
			fresh := New(cfg)
			fresh.Apply(view, view.Since(nil))
			from := rapid.SampledFrom(askers).Draw(t, "asker")
			for i, name := range all {
				for _, v6 := range []bool{false, true} {
					if got, want := addressesOf(n, from, name, v6), c.naive(cfg, from, name, v6); got != want {
						t.Fatalf("%s (IPv6: %v) from %+v answers %q, wanted %q", name, v6, from, got, want)
					} else if got != "pass" && got != "nodata" && got != "nxdomain" {
						checkExplained(t, n, from, name, v6, got)
					}
				}
				if i%16 == 0 {
					compare(t, n, fresh, from, name)
				}
			}
			for id := range netID(4) {
				if diff := cmp.Diff(fresh.List(id), n.List(id), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
					t.Fatalf("network %d, from the whole view (-), by changes (+):\n%s", id, diff)
				}
			}
		}
	})
}

// addressesOf are the addresses that answer a question, or what else does.
func addressesOf(n *Names, from Asker, name string, v6 bool) string {
	qtype := map[bool]uint16{false: wire.TypeA, true: wire.TypeAAAA}[v6]
	var words []string
	for _, line := range text(n.Answer(from, new(wire.Msg).SetQuestion(name+".", qtype))) {
		fields := strings.Fields(line)
		if len(fields) > 2 {
			fields = fields[4:]
		}
		words = append(words, fields[0])
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// checkExplained checks that those who are said to answer are those who do.
func checkExplained(t *rapid.T, n *Names, from Asker, name string, v6 bool, answered string) {
	qtype := map[bool]uint16{false: wire.TypeA, true: wire.TypeAAAA}[v6]
	var words []string
	for _, e := range n.Explain(from, name, qtype).Entries {
		for _, addr := range e.Addrs {
			if e.Passed == "" && addr.Is4() != v6 && !slices.Contains(words, addr.String()) {
				words = append(words, addr.String())
			}
		}
	}
	slices.Sort(words)
	if said := strings.Join(words, " "); said != answered {
		t.Fatalf("%s (IPv6: %v) from %+v is said to answer %q and answers %q", name, v6, from, said, answered)
	}
}

func compare(t *rapid.T, n, fresh *Names, from Asker, name string) {
	queries := []*wire.Msg{new(wire.Msg).SetQuestion("_1._tcp."+name+".", wire.TypeSRV), new(wire.Msg).SetQuestion("_tcp."+name+".", wire.TypeSRV)}
	for i := range byte(4) {
		reverse, _ := wire.ReverseAddr(netip.AddrFrom4([4]byte{10, 1 + i/2, 1 + i%2, 1}).String())
		queries = append(queries, new(wire.Msg).SetQuestion(reverse, wire.TypePTR))
	}
	for _, q := range queries {
		if want, got := text(fresh.Answer(from, q)), text(n.Answer(from, q)); !slices.Equal(got, want) {
			t.Fatalf("%s from %+v answers %q by changes, %q from the whole view", q.Question[0].Name, from, got, want)
		}
	}
}
