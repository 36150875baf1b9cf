package dns

import (
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// Source is where a name comes from.
type Source uint8

// The sources, in the order in which they are asked. ByHostname and ByShortID are asked together.
const (
	ByContainer Source = iota + 1
	ByAlias
	ByHostname
	ByShortID
	ByApp
	ByHand // netmap.StaticName
)

var sourceNames = [...]string{ByContainer: "container name", ByAlias: "alias", ByHostname: "hostname", ByShortID: "short id", ByApp: "app id", ByHand: "added by hand"}

// String is the source in an operator's words.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return ""
}

// rank is smaller for what is asked earlier.
func (s Source) rank() Source {
	if s == ByShortID {
		return ByHostname
	}
	return s
}

// called is a name of a container on a network.
type called struct {
	name    string // lower case, without the network
	source  Source
	problem string // why it is not answered; "": it is
}

// called lists the names of a container, each once, by the first source that has it.
func (n *Names) called(e *netmap.EndpointView) (out []called) {
	if e.Names == nil {
		return nil
	}
	add := func(name string, source Source) {
		name = strings.TrimSuffix(strings.ToLower(name), "."+n.cfg.Domain) // of --hostname web.weft.local
		if name != "" && !slices.ContainsFunc(out, func(c called) bool { return c.name == name }) {
			out = append(out, called{name, source, n.Problem(name)})
		}
	}
	add(e.Names.Name, ByContainer)
	for _, alias := range e.Names.Aliases {
		add(alias, ByAlias)
	}
	add(e.Names.Hostname, ByHostname)
	add(e.Names.Short, ByShortID)
	if app := strings.Trim(e.Names.App, "/"); app != "" && n.cfg.Marathon {
		path := strings.Split(app, "/")
		slices.Reverse(path)
		add(strings.Join(path, "."), ByApp)
		add(strings.Join(path, "-"), ByApp)
	}
	return out
}

// target is the full name that an endpoint is referred to by; "" if it has none.
func (n *Names) target(w *network, e *netmap.EndpointView) string {
	zone := n.zone(w)
	for _, c := range n.called(e) {
		if c.problem == "" && len(c.name)+len(zone) <= netmap.MaxNameInDNS+1 {
			return c.name + zone
		}
	}
	return ""
}

// zone is what follows the name of a container in its full name.
func (n *Names) zone(w *network) string {
	if w.name == "" {
		return "." + n.cfg.Domain + "."
	}
	return "." + w.name + "." + n.cfg.Domain + "."
}

// Problem says why a name is never answered, although other names of the same container are. It
// is empty for one that is answered.
func (n *Names) Problem(name string) string {
	_, service := serviceOf(name)
	switch {
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		return "it means this host everywhere"
	case name == "arpa" || strings.HasSuffix(name, ".arpa"):
		return "it has the form of an address"
	case service:
		return "it has the form of a service"
	case name == n.cfg.Domain || strings.HasSuffix(name, "."+n.cfg.Domain):
		return "it ends in the domain of the cluster"
	}
	return netmap.NameProblem(name)
}
