package api

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weftnet/weft/netmap"
)

// NameQuery asks for names.
type NameQuery struct {
	Name    string `json:"name,omitempty"`    // to look up, as a container asks for it; a list has all
	Network string `json:"network,omitempty"` // its name or its number; empty: all networks
	Trace   bool   `json:"trace,omitempty"`   // of a lookup: ask Docker's resolver too
}

// Name is a name that a container has, a host, or what it was added for by hand.
type Name struct {
	Name      string            `json:"name"`              // without the network and the domain
	Network   string            `json:"network,omitempty"` // its name, or its number if it has none; empty: a host's
	Source    string            `json:"source"`            // such as alias
	Container string            `json:"container,omitempty"`
	Endpoint  netmap.EndpointID `json:"endpoint,omitempty"`
	Host      string            `json:"host,omitempty"` // its name
	Addrs     []netip.Addr      `json:"addrs"`
	Passed    string            `json:"passed,omitempty"` // why it does not answer; empty: it does
	// Since is when its container came onto the network, by the clock of its host. Lookups say it of
	// those that answer. Zero: it is not known, or no container.
	Since time.Time `json:"since,omitzero"`
}

// NameAnswer is what one question leads to.
type NameAnswer struct {
	Type    string   `json:"type"`    // of the question, such as AAAA
	Outcome string   `json:"outcome"` // in words
	Records []string `json:"records,omitempty"`
	Names   []Name   `json:"names,omitempty"` // who has the name, those that answer first
	// Docker is what Docker's resolver answers in a container of this host that is on the
	// network; empty unless Trace was asked for.
	Docker string `json:"docker,omitempty"`
}

// StaticName asks to give a name to what is outside of containers, or to take it away.
type StaticName struct {
	Name    string     `json:"name"`
	Network string     `json:"network"`       // its name or its number
	Addr    netip.Addr `json:"addr,omitzero"` // to take away: zero is all of the name
}

// NamesText writes names for people.
func NamesText(w io.Writer, names []Name) error {
	p := &printer{w: tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)}
	p.f("NAME\tNETWORK\tADDRESS\tCONTAINER\tHOST\tSOURCE\n")
	for _, n := range names {
		p.name(n, note(n))
	}
	return p.end()
}

// name writes a line of a table: of a name, and what the last columns say.
func (p *printer) name(n Name, last string) {
	var addrs []string
	for _, a := range n.Addrs {
		addrs = append(addrs, a.String())
	}
	p.f("%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, orDash(n.Network), orNone(addrs), orDash(n.Container), orDash(n.Host), last)
}

// note is the source of a name, and why it does not answer.
func note(n Name) string {
	if n.Passed == "" {
		return n.Source
	}
	return n.Source + " (does not answer: " + n.Passed + ")"
}

// NameAnswers returns what writes answers for people: the records and who answers, and with trace
// also who has the name and does not, and what Docker says.
func NameAnswers(trace *bool) func(io.Writer, []NameAnswer) error {
	return func(w io.Writer, answers []NameAnswer) error {
		p := &printer{w: tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)}
		for _, a := range answers {
			p.f("%s: %s\n", a.Type, a.Outcome)
			for _, r := range a.Records {
				p.f("  %s\n", strings.Join(strings.Fields(r), " "))
			}
			names := a.Names
			if !*trace {
				names = slices.DeleteFunc(slices.Clone(names), func(n Name) bool { return n.Passed != "" })
			}
			if len(names) > 0 {
				p.f("  NAME\tNETWORK\tADDRESS\tCONTAINER\tHOST\tSINCE\tSOURCE\n")
			}
			for _, n := range names {
				n.Name = "  " + n.Name
				p.name(n, moment(n.Since)+"\t"+note(n))
			}
			if *trace && a.Docker != "" {
				p.f("  Docker's resolver: %s\n", a.Docker)
			}
		}
		return p.end()
	}
}

func (p *printer) end() error {
	if p.err != nil {
		return fmt.Errorf("api: %w", p.err)
	}
	return p.w.Flush()
}
