package plugin_test

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/api"
)

// TestNamesAddedByHandAreOnAllHosts until they are removed, or their network is.
func TestNamesAddedByHandAreOnAllHosts(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		one.network("web", web)
		two.until("web", soon, func() bool { return two.lookup("web") != "" })
		nas := api.StaticName{Name: "nas", Network: "web", Addr: netip.MustParseAddr("192.0.2.7")}
		answers := func(h *host) string {
			found, err := h.LookupName(t.Context(), api.NameQuery{Name: "NAS", Network: "web"})
			if err != nil {
				t.Fatal(err)
			}
			if len(found[0].Records) == 0 {
				return found[0].Outcome
			}
			return found[0].Records[0]
		}
		if text, err := two.AddName(t.Context(), nas); err != nil || text != "nas is 192.0.2.7 on network web" {
			t.Fatalf("%q, %v", text, err)
		}
		for _, h := range hosts[:2] {
			h.until("the name", soon, func() bool { return holds(answers(h), "NAS.", "192.0.2.7") })
			if names, err := h.ListNames(t.Context(), api.NameQuery{}); err != nil || len(names) != 1 || names[0].Network != "web" {
				t.Errorf("listed: %+v, %v", names, err)
			}
		}
		if _, err := one.RemoveName(t.Context(), api.StaticName{Name: "nas", Network: "web"}); err != nil {
			t.Fatal(err)
		}
		two.until("no name", soon, func() bool { return holds(answers(two), "no name of the cluster") })
		if _, err := one.RemoveName(t.Context(), nas); err == nil || !holds(err.Error(), "weft dns ls") {
			t.Errorf("once more: %v", err)
		}
	})
}
