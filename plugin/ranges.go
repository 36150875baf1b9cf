package plugin

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/settings"
)

const rangeSetting = "WEFT_RANGE"

// rangeProblem says that WEFT_RANGES of this host differs from the ranges with which the
// cluster was founded. The first founder decides, and an operator who sets something else later
// should know that it has no effect (DESIGN §8). It is empty if the cluster has all wanted
// ranges, and for the default. The cluster may have more: added ranges, and an IPv6 range of
// its own.
func rangeProblem(want []netip.Prefix, have []netmap.Range) string {
	if len(have) == 0 || joined(want) == defaultRange() {
		return ""
	}
	decided := make([]netip.Prefix, 0, len(have))
	for _, r := range have {
		decided = append(decided, r.Prefix)
	}
	for _, p := range want {
		if !slices.Contains(decided, p) {
			return fmt.Sprintf("%s=%s on this host, but the cluster was founded with %s, which stays: set %s to that, or leave it out", rangeSetting, joined(want), joined(decided), rangeSetting)
		}
	}
	return ""
}

func joined(ps []netip.Prefix) string {
	words := make([]string, 0, len(ps))
	for _, p := range ps {
		words = append(words, p.String())
	}
	return strings.Join(words, ",")
}

func defaultRange() string {
	table := settings.Table()
	i := slices.IndexFunc(table, func(s settings.Setting) bool { return s.Env == rangeSetting })
	return table[i].Default
}
