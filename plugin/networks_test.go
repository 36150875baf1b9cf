package plugin_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// TestAReplicaGoesOnlyHere: docker network rm or prune on a host that has a replica removes the network
// from no other host, and the replica comes back.
func TestAReplicaGoesOnlyHere(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		hosts := up(c, 3)
		one, two := hosts[0], hosts[1]
		id := one.network("web", web)
		two.until("web", soon, func() bool { return two.lookup("web") != "" })
		for range 3 {
			two.remove(two.lookup("web"))
			two.until("web again", soon, func() bool { return two.lookup("web") != "" })
		}
		two.docker.BreakAPI(nil) // a reason to look once more
		c.stays(one, id)
		two.restart()
		c.stays(one, id)

		one.remove(id)
		for _, h := range hosts {
			h.until("web is gone", soon, func() bool { return h.lookup("web") == "" && h.reported(web).ID == 0 })
		}
	})
}

// TestAReplicaWhoseCreatorIsNoMember: a user can remove the network on any host if the host on which it
// was created is not a member any more.
func TestAReplicaWhoseCreatorIsNoMember(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		gone, two := hosts[2], hosts[1]
		gone.network("web", web)
		two.until("web", soon, func() bool { return two.lookup("web") != "" })
		gone.stop()
		if _, err := hosts[0].RemoveHost(t.Context(), api.Removal{Host: gone.set.Name, IsOff: true}); err != nil {
			t.Fatal(err)
		}
		two.until("the host is removed", soon, func() bool {
			for _, h := range two.Report().Hosts {
				if h.Name == gone.set.Name && h.State == "removed" {
					return true
				}
			}
			return len(two.Report().Hosts) == 2
		})
		two.remove(two.lookup("web"))
		for _, h := range hosts[:2] {
			h.until("web is gone", soon, func() bool { return h.lookup("web") == "" && h.reported(web).ID == 0 })
		}
	})
}

// TestNetworksAreRemovedFromAnyHost: weft network rm works on any host.
func TestNetworksAreRemovedFromAnyHost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		id := one.network("web", web)
		two.until("web", soon, func() bool { return two.lookup("web") != "" })
		one.run("shop", id, "")
		two.until("shop", soon, func() bool { return len(two.reported(web).Endpoints) == 1 })
		rm := func(name string, dry bool) (string, error) {
			return two.RemoveNetwork(t.Context(), api.NetworkRemoval{Network: name, DryRun: dry})
		}
		for name, want := range map[string]string{"": "which network", "shop": "there is no network shop", "99999": "there is no network 99999"} {
			if _, err := rm(name, false); err == nil || !holds(err.Error(), want) {
				t.Errorf("weft network rm %q: %v", name, err)
			}
		}
		if text, err := rm("web", true); err != nil || !holds(text, "would be removed", web, "last container", one.set.Name) || two.reported(web).Retired {
			t.Errorf("a dry run: %q, %v, retired %v", text, err, two.reported(web).Retired)
		}
		if text, err := rm("web", false); err != nil || !holds(text, "network web", "is removed", one.set.Name) {
			t.Errorf("%q, %v", text, err)
		}
		two.until("web is gone where it is unused", soon, func() bool { return two.lookup("web") == "" })
		if _, err := rm("web", false); err == nil || !holds(err.Error(), "removed already", one.set.Name) {
			t.Errorf("once more: %v", err)
		}
		if err := one.docker.Remove(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		one.until("web is gone where it was used", soon, func() bool { return one.lookup("web") == "" })
	})
}

// TestReplicasShowWhatTheFirstNetworkShows, and what it shows when its user makes it
// anew with other labels, options and --ip-range.
func TestReplicasShowWhatTheFirstNetworkShows(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		spec := named("web", web)
		spec.Shown = netmap.DockerNetwork{
			Labels: map[string]string{"keep": "yes"}, Options: map[string]string{"weft.mtu": "1400"}, IPAMOptions: map[string]string{"weft.block": "/28"}, Attachable: true,
			Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix(web), Range: netip.MustParsePrefix("10.40.0.0/25"), Gateway: addr("10.40.0.1"), Aux: map[string]netip.Addr{"nas": addr("10.40.0.9")}}},
		}
		made, err := one.docker.CreateNetwork(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		same := func() bool { return diffShown(shownBy(one), shownBy(two)) == "" }
		two.until("web", soon, func() bool { return two.lookup("web") != "" })
		if !same() || shownBy(two).Replica == 0 {
			t.Errorf("(-host 1 +host 2):\n%s", diffShown(shownBy(one), shownBy(two)))
		}
		one.docker.BreakAPI(errors.New("Docker is busy")) // the agent hears of both at once
		one.remove(made)
		spec.Shown.Labels, spec.Shown.Options["note"] = map[string]string{"keep": "no"}, "new"
		spec.Shown.Pools[0].Range = netip.MustParsePrefix("10.40.0.128/25")
		if _, err := one.docker.CreateNetwork(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		one.docker.BreakAPI(nil)
		two.until("it looks as it does now", soon, func() bool { return two.lookup("web") != "" && same() })
	})
}

// TestOnlyAgentsMakeReplicas: Docker cannot say who creates a network, a user with the mark
// of a replica or the agent. What an agent asked for before it was started anew is refused
// as a user's is, and asked for again.
func TestOnlyAgentsMakeReplicas(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		two.docker.BreakAPI(errors.New("Docker is busy")) // so that it makes no replica itself
		one.network("web", web)
		two.until("the network's name is known", soon, func() bool { return two.reported(web).Name == "web" })
		marked := func(at *host, name, subnet string) error {
			spec := named(name, subnet)
			spec.Shown.Options = map[string]string{dockerapi.ReplicaOption: fmt.Sprint(one.reported(web).ID)}
			_, err := at.docker.CreateNetwork(t.Context(), spec)
			return err
		}
		for _, err := range []error{marked(two, "web", web), marked(two, "shop", web), marked(two, "shop", "10.50.0.0/24"), marked(one, "shop", "10.50.0.0/24")} {
			if err == nil || !holds(err.Error(), dockerapi.ReplicaOption, "set by the agent", "leave the option out") {
				t.Errorf("marked by a user: %v", err)
			}
		}
		two.restart()
		two.ready()
		two.docker.BreakAPI(nil)
		two.until("the replica", soon, func() bool { return shownBy(two).Replica != 0 && len(two.Report().Problems) == 0 })
		if err := marked(two, "shop", "10.50.0.0/24"); err == nil {
			t.Error("marked by a user, after a replica was made")
		}
		two.network("shop", "10.50.0.0/24")
	})
}

// TestTooManyLabelsStayAtHome: labels beyond the limit are not replicated, and a problem says so.
func TestTooManyLabelsStayAtHome(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		spec := named("web", web)
		spec.Shown.Labels = map[string]string{"k": strings.Repeat("v", 5000)}
		if _, err := hosts[0].docker.CreateNetwork(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		hosts[0].problem(soon, "network web", "5000 bytes", "at most 4096", "stays on this host")
	})
}

// shownBy is what a host's Docker shows of network web.
func shownBy(h *host) dockerapi.Network {
	h.c.t.Helper()
	list, err := h.docker.Networks(h.c.t.Context())
	if err != nil {
		h.c.t.Fatal(err)
	}
	for _, n := range list {
		if n.Name == "web" {
			return n
		}
	}
	return dockerapi.Network{}
}

// diffShown compares all but the id and the mark of a replica.
func diffShown(one, two dockerapi.Network) string {
	mark := cmpopts.IgnoreMapEntries(func(k, _ string) bool { return k == dockerapi.ReplicaOption })
	return cmp.Diff(one, two, mark, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(dockerapi.Network{}, "ID", "Replica"), cmpopts.EquateComparable(netip.MustParsePrefix(web), addr("10.40.0.1")))
}
