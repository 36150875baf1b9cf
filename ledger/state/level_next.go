//go:build nextlevel

// With the build tag nextlevel this is a release of the next feature level, and what is
// shipped is the release before it. Tests run both in one cluster; nobody installs this.

package state

import (
	"slices"

	"github.com/weftnet/weft/netmap"
)

var releases = [...]string{"0.1.0", "next"}

// KindDropRange takes address space back that no subnet uses.
const KindDropRange Kind = "drop-range"

func init() {
	kinds[KindDropRange] = with(2, func(c Command) *AddRange { return c.AddRange }, (*step).dropRange)
}

func (t *step) dropRange(a *AddRange) *netmap.Refusal {
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		if p.Overlaps(a.Range) {
			return netmap.Refuse(netmap.Held, "%s lies in range %s; remove its network first", t.subnetName(p), a.Range)
		}
	}
	i := slices.Index(t.ranges, a.Range)
	if i < 0 {
		return netmap.Refuse(netmap.Unknown, "there is no range %s; weft range ls lists them", a.Range)
	}
	t.ranges = slices.Delete(slices.Clone(t.ranges), i, i+1)
	t.gone(netmap.Range{Prefix: a.Range})
	for order, r := range t.ranges[i:] {
		t.set(netmap.Range{Prefix: r, Order: i + order})
	}
	return nil
}
