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

// rangeProblem tells the operator when this host asks for other ranges than the cluster was
// founded with: the first founder decides, and who sets something else later should not
// believe that it counts (DESIGN §8). It is empty if all wanted ranges are the cluster's, and for the
// default, which a host that leaves the setting alone has. The cluster may have
// more: ranges that were added, and an IPv6 one of its own.
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
