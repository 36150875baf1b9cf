package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// noQuorum returns the refusal that names the other keepers and what is wrong with each.
func (l *Ledger) noQuorum(failures map[netmap.HostID]string) *netmap.Refusal {
	keepers := map[netmap.HostID]bool{}
	for _, p := range l.picture().Keepers {
		if p.Voter {
			keepers[p.ID] = true
		}
	}
	names := map[netmap.HostID]Member{l.cfg.Self: {Name: l.cfg.Name, Addr: l.cfg.Addr}}
	for _, m := range l.cfg.Members() {
		names[m.ID] = m
		if m.Keeper && len(l.picture().Keepers) == 0 {
			keepers[m.ID] = true
		}
	}
	if len(keepers) == 0 && l.isDoubtful() {
		return netmap.Refuse(netmap.NoQuorum, "nothing can be decided now: this host kept the ledger, and %s; try again in some seconds", starting)
	}
	if len(keepers) == 0 {
		return netmap.Refuse(netmap.NoQuorum, "no keeper of the ledger is known to this host yet, so nothing can be decided; %s", asked(failures, names))
	}
	self := ""
	var others []string
	for _, id := range slices.SortedFunc(maps.Keys(keepers), netmap.ID.Compare) {
		if id == l.cfg.Self {
			self = " (this host is one)"
			continue
		}
		others = append(others, label(id, names)+" "+cmp.Or(failures[id], "was not asked in time"))
	}
	if len(others) == 0 {
		return netmap.Refuse(netmap.NoQuorum, "nothing can be decided now: this host is the only keeper of the ledger and does not lead yet; try again")
	}
	if len(keepers) == 1 {
		return onlyKeeper(others[0], slices.Contains([]string{leaderless, starting}, failures[slices.Collect(maps.Keys(keepers))[0]]))
	}
	need := len(keepers)/2 + 1
	return netmap.Refuse(netmap.NoQuorum, "nothing can be decided now: %d of the %d keepers of the ledger%s must reach each other: %s; start those hosts or repair the network between them; if a majority is gone for good, see weft ledger recover", need, len(keepers), self, strings.Join(others, ", "))
}

// What is wrong with a keeper that answers and will soon do better.
const (
	leaderless = "knows no leader"
	starting   = "is starting and asks first whether another machine runs in its place"
)

// onlyKeeper returns the refusal for a ledger whose one keeper is another host.
func onlyKeeper(whatIsWrong string, soon bool) *netmap.Refusal {
	remedy := "start that host or repair the network to it; if it is gone for good, see weft ledger recover"
	if soon {
		remedy = "try again in some seconds"
	}
	return netmap.Refuse(netmap.NoQuorum, "nothing can be decided now: the only keeper of the ledger, %s; %s", whatIsWrong, remedy)
}

// trouble returns a sentence if this host does not see a majority of the keepers, so that
// nothing new can be decided. It is empty if it sees one, or knows no keepers.
func (l *Ledger) trouble(s Status) string {
	names := map[netmap.HostID]Member{l.cfg.Self: {Name: l.cfg.Name, Addr: l.cfg.Addr, Alive: true}}
	for _, m := range l.cfg.Members() {
		if m.ID != l.cfg.Self {
			names[m.ID] = m
		}
	}
	voters := 0
	var missing []string
	for _, p := range s.Keepers {
		if !p.Voter {
			continue
		}
		voters++
		if !names[p.ID].Alive {
			missing = append(missing, label(p.ID, names))
		}
	}
	if voters == 0 || 2*(voters-len(missing)) > voters {
		return ""
	}
	const meanwhile = "Containers run on, and addresses of this host's own blocks are given out as long as its lease lasts"
	if voters == 1 {
		return fmt.Sprintf("nothing new can be decided: the only keeper of the ledger is not seen: %s; start that host or repair the network to it; if it is gone for good, see weft ledger recover. %s", missing[0], meanwhile)
	}
	return fmt.Sprintf("nothing new can be decided: of the %d keepers of the ledger these are not seen: %s; start those hosts or repair the network between them; if they are gone for good, see weft ledger recover. %s", voters, strings.Join(missing, ", "), meanwhile)
}

func asked(failures map[netmap.HostID]string, names map[netmap.HostID]Member) string {
	if len(failures) == 0 {
		return "no other host is reachable; check WEFT_JOIN and the network"
	}
	var parts []string
	for _, id := range slices.SortedFunc(maps.Keys(failures), netmap.ID.Compare) {
		parts = append(parts, label(id, names)+" "+failures[id])
	}
	return strings.Join(parts, ", ")
}

// label names a host and its address for people.
func label(id netmap.HostID, names map[netmap.HostID]Member) string {
	m, ok := names[id]
	if !ok {
		return "host " + id.Short()
	}
	return fmt.Sprintf("%s (%s)", m.Name, m.Addr)
}
