package lab

import (
	"fmt"
	"slices"
	"strings"
)

// Switch is the number that stands for the switch itself, the hosts' default gateway, in
// an Arrow.
const Switch = 0

// Arrow is one direction between two hosts.
type Arrow struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// Cut is a way to interrupt the underlay.
type Cut struct {
	of func(hosts []int) []Arrow
	is func(Arrow) bool
	as string
}

// String says the cut in words.
func (c Cut) String() string { return c.as }

// Stops reports whether a cut stops what one host sends to another.
func (c Cut) Stops(from, to int) bool { return c.is(Arrow{From: from, To: to}) }

// Off cuts one host off from all others and from its gateway.
func Off(host int) Cut {
	return Cut{
		as: fmt.Sprintf("host%d off", host),
		is: func(a Arrow) bool { return a.From == host || a.To == host },
		of: func(hosts []int) []Arrow {
			arrows := []Arrow{{From: host, To: Switch}, {From: Switch, To: host}}
			for _, other := range hosts {
				if other != host {
					arrows = append(arrows, Arrow{From: host, To: other}, Arrow{From: other, To: host})
				}
			}
			return arrows
		},
	}
}

// Between cuts the link between two hosts, both ways.
func Between(a, b int) Cut {
	both := []Arrow{{From: a, To: b}, {From: b, To: a}}
	return Cut{
		as: fmt.Sprintf("host%d and host%d from each other", a, b),
		is: func(x Arrow) bool { return slices.Contains(both, x) },
		of: func([]int) []Arrow { return both },
	}
}

// OneWay cuts what one host sends to another; the other way stays open.
func OneWay(from, to int) Cut {
	one := Arrow{From: from, To: to}
	return Cut{
		as: fmt.Sprintf("host%d to host%d", from, to),
		is: func(x Arrow) bool { return x == one },
		of: func([]int) []Arrow { return []Arrow{one} },
	}
}

// withCut adds a cut to those in force, each arrow once.
func withCut(have []Arrow, c Cut, hosts []int) []Arrow {
	return sortArrows(append(slices.Clone(have), c.of(hosts)...))
}

// withoutCut takes away every arrow that a cut covers.
func withoutCut(have []Arrow, c Cut) []Arrow {
	return sortArrows(slices.DeleteFunc(slices.Clone(have), c.is))
}

func sortArrows(arrows []Arrow) []Arrow {
	slices.SortFunc(arrows, func(a, b Arrow) int {
		if a.From != b.From {
			return a.From - b.From
		}
		return a.To - b.To
	})
	return slices.Compact(arrows)
}

// ruleset is the whole of the switch's nftables rules for these cuts; loading it replaces
// what was there at one stroke. It drops every kind of frame, ARP and neighbour discovery
// too, as an unplugged cable does.
func ruleset(cuts []Arrow) string {
	var forward, input, output strings.Builder
	for _, a := range cuts {
		switch {
		case a.To == Switch:
			fmt.Fprintf(&input, "    iifname %q drop\n", portName(a.From))
		case a.From == Switch:
			fmt.Fprintf(&output, "    oifname %q drop\n", portName(a.To))
		default:
			fmt.Fprintf(&forward, "    iifname %q oifname %q drop\n", portName(a.From), portName(a.To))
		}
	}
	return "table bridge cuts\ndelete table bridge cuts\ntable bridge cuts {\n" +
		chain("forward", forward.String()) + chain("input", input.String()) + chain("output", output.String()) + "}\n"
}

func chain(hook, rules string) string {
	return fmt.Sprintf("  chain %s {\n    type filter hook %s priority 0\n%s  }\n", hook, hook, rules)
}

// portName is the switch's end of a host's cable.
func portName(host int) string { return hostName(host) }
