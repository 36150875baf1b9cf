package dns

import (
	"fmt"
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
)

var sourceNames = [...]string{ByContainer: "container name", ByAlias: "alias", ByHostname: "hostname", ByShortID: "short id", ByApp: "app id"}

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
		name = strings.ToLower(name)
		if name != "" && !slices.ContainsFunc(out, func(c called) bool { return c.name == name }) {
			out = append(out, called{name, source, n.problem(name)})
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
	zone := "." + n.cfg.Domain + "."
	if w.name != "" {
		zone = "." + w.name + zone
	}
	for _, c := range n.called(e) {
		if c.problem == "" && len(c.name)+len(zone) <= maxName+1 {
			return c.name + zone
		}
	}
	return ""
}

// problem says why a name of a container is never answered, although its other names are.
func (n *Names) problem(name string) string {
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
	return problem(name)
}

// maxName is how many bytes a name may have as text, without a dot at its end.
const maxName = 253

// problem says why a name is none that DNS can carry; "" if it is one.
func problem(name string) string {
	if len(name) > maxName {
		return fmt.Sprintf("it has more than %d bytes", maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return "it has an empty label"
		}
		if len(label) > 63 {
			return "it has a label of more than 63 bytes"
		}
		for i := range len(label) {
			if c := label[i]; !isLetter(c) && c != '-' && c != '_' {
				return fmt.Sprintf("%q is no byte of a name", c)
			}
		}
	}
	return ""
}

// isLetter reports whether a byte is a letter or digit.
func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z'
}
