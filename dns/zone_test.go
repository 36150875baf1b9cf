package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

// story is a text of facts, questions and answers, line by line:
//
//	set health|local|domain=D          of the Config; at the beginning
//	host NAME ADDR
//	network NAME PREFIX...             "." for no name
//	retire NAME
//	on NETWORK HOST CONTAINER ADDR...  and then words: alias=A hostname=H short=S app=/A port=80/tcp unhealthy itself id=ID
//	off NETWORK HOST CONTAINER
//	hand NETWORK NAME ADDR             a name is added by hand
//	unhand NETWORK NAME ADDR
//	down HOST
//	from NETWORK...                    who asks; * is the host itself
//	? NAME TYPE                        and the answer in the lines that follow:
//	RECORD                             as in a zone file, sorted; + before one of the additional section
//	nodata ZONE / nxdomain ZONE        no record, and whose authority says so
//	pass                               left to Docker
type story struct {
	t        testing.TB
	names    *Names
	told     bool // names has all facts
	cfg      Config
	view     *netmap.View
	changed  *netmap.View // what is not applied yet
	ends     []netmap.EndpointView
	down     map[netmap.HostID]bool
	networks []string // their ids count from 1
	hosts    []string
	from     Asker
}

func tell(t testing.TB, text string) *story {
	t.Helper()
	s := &story{t: t, cfg: Config{TTL: 5 * time.Second, Marathon: true}, changed: &netmap.View{}, down: map[netmap.HostID]bool{}}
	s.cfg.Alive = func(id netmap.HostID) bool { return !s.down[id] }
	var asked string
	var want []string
	check := func() {
		if asked != "" {
			name, qtype, _ := strings.Cut(asked, " ")
			if diff := cmp.Diff(want, s.ask(name, wire.StringToType[qtype])); diff != "" {
				t.Errorf("? %s: wanted (-), got (+):\n%s", asked, diff)
			}
		}
		asked, want = "", nil
	}
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		switch words := strings.Fields(line); {
		case line == "" || line[0] == '#':
		case words[0] == "?":
			check()
			asked = strings.TrimPrefix(line, "? ")
		case slices.Contains(facts, words[0]):
			check()
			s.fact(words[0], words[1:])
			s.told = false
		default:
			want = append(want, line)
		}
	}
	check()
	return s
}

var facts = []string{"set", "host", "network", "retire", "on", "off", "hand", "unhand", "down", "from"}

func (s *story) fact(what string, args []string) {
	switch what {
	case "set":
		s.cfg.Health = s.cfg.Health || slices.Contains(args, "health")
		for _, word := range args {
			if domain, ok := strings.CutPrefix(word, "domain="); ok {
				s.cfg.Domain = domain
			}
		}
		s.cfg.PreferLocal = s.cfg.PreferLocal || slices.Contains(args, "local")
	case "host":
		s.hosts = append(s.hosts, args[0])
		h := netmap.HostView{ID: s.host(args[0]), Entry: netmap.HostEntry{ID: s.host(args[0])}, Fact: netmap.HostFact{Name: args[0], Underlay: netip.AddrPortFrom(netip.MustParseAddr(args[1]), 1)}}
		s.changed.Hosts = append(slices.Clone(s.changed.Hosts), h)
		s.cfg.Self = s.host(s.hosts[0])
	case "network":
		s.networks = append(s.networks, args[0])
		w := netmap.Network{ID: netmap.NetworkID(len(s.networks)), Name: strings.TrimPrefix(args[0], ".")}
		for _, p := range args[1:] {
			w.Subnets = append(w.Subnets, netip.MustParsePrefix(p))
		}
		s.changed.Networks = append(slices.Clone(s.changed.Networks), w)
	case "retire":
		s.changed.Networks = slices.Clone(s.changed.Networks)
		s.changed.Networks[s.network(args[0])-1].Retired = true
		s.networks[s.network(args[0])-1] += " (retired)"
	case "on":
		s.ends = append(s.ends, s.endpoint(args))
		s.changed = s.changed.WithEndpoints(s.ends...)
	case "off":
		e := s.endpoint(args)
		s.ends = slices.DeleteFunc(slices.Clone(s.ends), func(o netmap.EndpointView) bool { return o.ID == e.ID && o.Host == e.Host })
		s.changed = s.changed.WithEndpoints(s.ends...)
	case "hand", "unhand":
		name := netmap.StaticName{Network: s.network(args[0]), Name: args[1], Addr: netip.MustParseAddr(args[2])}
		s.changed.StaticNames = slices.DeleteFunc(slices.Clone(s.changed.StaticNames), func(o netmap.StaticName) bool { return o == name })
		if what == "hand" {
			s.changed.StaticNames = append(s.changed.StaticNames, name)
			slices.SortFunc(s.changed.StaticNames, netmap.StaticName.Compare)
		}
	case "down":
		s.down[s.host(args[0])] = true
	case "from":
		s.from = Asker{}
		for _, name := range args {
			if s.from.Everything = name == "*"; !s.from.Everything {
				s.from.Networks = append(s.from.Networks, s.network(name))
			}
		}
	}
}

func (s *story) host(name string) netmap.HostID {
	return netmap.HostID{1, byte(slices.Index(s.hosts, name) + 1)}
}

func (s *story) network(name string) netmap.NetworkID {
	i := slices.Index(s.networks, name)
	if i < 0 {
		s.t.Fatalf("no network %s", name)
	}
	return netmap.NetworkID(i + 1)
}

func (s *story) endpoint(args []string) netmap.EndpointView {
	network, host, name := args[0], args[1], strings.ReplaceAll(args[2], `\s`, " ")
	e := netmap.EndpointView{Host: s.host(host)}
	e.ID, e.Network = netmap.EndpointID(network+"/"+host+"/"+name), s.network(network)
	e.Names = &netmap.EndpointName{Endpoint: e.ID, Name: name}
	for _, word := range args[3:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "id":
			e.ID = netmap.EndpointID(value)
		case "alias":
			e.Names.Aliases = append(e.Names.Aliases, value)
		case "hostname":
			e.Names.Hostname = value
		case "short":
			e.Names.Short = value
		case "app":
			e.Names.App = value
		case "unhealthy":
			e.Names.Unhealthy = true
		case "nameless":
			e.Names = nil
		case "itself": // the host's own endpoint
			e.ID, e.Names = netmap.HostEndpoint(e.Host, e.Network), nil
		case "port":
			number, proto, _ := strings.Cut(value, "/")
			port, _ := strconv.Atoi(number)
			e.Names.Services = append(e.Names.Services, netmap.Service{Port: uint16(port), Protocol: protocols["_"+proto]})
		default:
			if a := netip.MustParseAddr(word); a.Is4() {
				e.V4 = a
			} else {
				e.V6 = a
			}
		}
	}
	return e
}

// apply has the names follow the facts.
func (s *story) apply() {
	if s.told {
		return
	}
	if s.told = true; s.names == nil {
		s.names = New(s.cfg)
	}
	now := *s.changed
	s.names.Apply(&now, now.Since(s.view))
	s.view = &now
}

func (s *story) ask(name string, qtype uint16) []string {
	s.apply()
	return text(s.names.Answer(s.from, new(wire.Msg).SetQuestion(name+".", qtype)))
}

// text is a reply as in a story.
func text(reply *wire.Msg) (out []string) {
	if reply == nil {
		return []string{"pass"}
	}
	for _, rr := range reply.Answer {
		out = append(out, line(rr))
	}
	slices.Sort(out)
	if len(reply.Answer) == 0 {
		word := map[int]string{wire.RcodeSuccess: "nodata", wire.RcodeNameError: "nxdomain"}[reply.Rcode]
		if len(reply.Ns) != 1 {
			return []string{wire.RcodeToString[reply.Rcode]}
		}
		out = append(out, word+" "+reply.Ns[0].Header().Name)
	}
	for _, rr := range reply.Extra {
		if rr.Header().Rrtype != wire.TypeOPT {
			out = append(out, "+ "+line(rr))
		}
	}
	return out
}

func line(rr wire.RR) string { return strings.Join(strings.Fields(rr.String()), " ") }
