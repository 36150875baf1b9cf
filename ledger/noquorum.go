package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// noQuorum names the keepers and what is wrong with each.
func (l *Ledger) noQuorum(failures map[netmap.HostID]string) *netmap.Refusal {
	keepers := map[netmap.HostID]bool{}
	for _, p := range l.Status().Keepers {
		if p.Voter {
			keepers[p.ID] = true
		}
	}
	names := map[netmap.HostID]Member{l.cfg.Self: {Name: l.cfg.Name, Addr: l.cfg.Addr}}
	for _, m := range l.cfg.Members() {
		names[m.ID] = m
		if m.Keeper && len(l.Status().Keepers) == 0 {
			keepers[m.ID] = true
		}
	}
	if len(keepers) == 0 {
		return netmap.Refuse(netmap.NoQuorum, "no keeper of the ledger is known to this host yet, so nothing can be decided; %s", asked(failures, names))
	}
	var parts []string
	silent := 0
	for _, id := range slices.SortedFunc(maps.Keys(keepers), compareID) {
		what := failures[id]
		switch {
		case id == l.cfg.Self:
			what = "is this host"
		case what == "":
			what = "was not asked in time"
		}
		if what == "does not answer" {
			silent++
		}
		parts = append(parts, fmt.Sprintf("%s %s", label(id, names), what))
	}
	need := len(keepers)/2 + 1
	return netmap.Refuse(netmap.NoQuorum, "nothing can be decided now: %d of the %d keepers of the ledger must reach each other, and %d did not answer (%s); start those hosts or repair the network between them", need, len(keepers), silent, strings.Join(parts, ", "))
}

func asked(failures map[netmap.HostID]string, names map[netmap.HostID]Member) string {
	if len(failures) == 0 {
		return "no other host is reachable; check WEFT_JOIN and the network"
	}
	var parts []string
	for _, id := range slices.SortedFunc(maps.Keys(failures), compareID) {
		parts = append(parts, label(id, names)+" "+failures[id])
	}
	return strings.Join(parts, ", ")
}

// label is how people are told of a host and where it is.
func label(id netmap.HostID, names map[netmap.HostID]Member) string {
	m, ok := names[id]
	if !ok {
		return "host " + id.Short()
	}
	return fmt.Sprintf("%s (%s)", m.Name, m.Addr)
}
