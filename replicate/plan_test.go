package replicate

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// say prints a plan.
func say(steps []step) string {
	var out []string
	for _, s := range steps {
		out = append(out, s.String())
	}
	return strings.Join(out, ", ")
}

func labelled(value string) netmap.DockerNetwork {
	return netmap.DockerNetwork{Labels: map[string]string{"k": value}}
}

// anewWith is network 7 as its user has made it anew, in the words that Docker shows.
func anewWith(shown netmap.DockerNetwork) []netmap.Network {
	return []netmap.Network{{ID: 7, Name: "overlay", Docker: &shown}}
}

// replicaWith is what this host has of it.
func replicaWith(shown netmap.DockerNetwork) []dockerNet {
	options := map[string]string{dockerapi.ReplicaOption: "7", "com.docker.network.enable_ipv4": "true"}
	maps.Copy(options, shown.Options)
	shown.Options = options
	return []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Replica: true, Shown: shown}}
}

func TestPlanOfAReplicaWithOptions(t *testing.T) {
	options := func(kv ...string) netmap.DockerNetwork {
		return netmap.DockerNetwork{Options: map[string]string{kv[0]: kv[1]}}
	}
	ipam := func(kv ...string) netmap.DockerNetwork {
		return netmap.DockerNetwork{IPAMOptions: map[string]string{kv[0]: kv[1]}}
	}
	ranged := func(p string) netmap.DockerNetwork {
		return netmap.DockerNetwork{Pools: []netmap.DockerPool{{Range: netip.MustParsePrefix(p)}}}
	}
	none := netmap.DockerNetwork{}
	for _, c := range []struct {
		story     string
		want, has netmap.DockerNetwork
		plan      string
	}{
		{"without any", none, none, ""},
		{"the same", options("weft.mtu", "1400"), options("weft.mtu", "1400"), ""},
		{"the same for IPAM", ipam("weft.block", "/28"), ipam("weft.block", "/28"), ""},
		{"the same --ip-range", ranged("10.40.0.0/25"), ranged("10.40.0.0/25"), ""},
		{"another value", options("weft.mtu", "1400"), options("weft.mtu", "1300"), "remove a"},
		{"one more", options("o", "1"), none, "remove a"},
		{"one more on this host, by its default-network-opts", none, options("weft.multicast", "true"), ""},
		{"another --ip-range", ranged("10.40.0.0/25"), ranged("10.40.0.128/25"), "remove a"},
	} {
		if got := say(planReplicas(anewWith(c.want), replicaWith(c.has))); got != c.plan {
			t.Errorf("%s: the plan is %q, want %q", c.story, got, c.plan)
		}
	}
}

// planned is what becomes of this Docker's networks.
type planned struct {
	story   string
	decided []netmap.Network
	local   []dockerNet
	want    string
}

func plans(t *testing.T, cases []planned) {
	t.Helper()
	for _, c := range cases {
		if diff := cmp.Diff(c.want, say(planReplicas(c.decided, c.local))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.story, diff)
		}
	}
}

var overlay = netmap.Network{ID: 7, Name: "overlay", Docker: &netmap.DockerNetwork{}}

func TestPlanReplicas(t *testing.T) {
	plans(t, []planned{
		{"nothing anywhere", nil, nil, ""},
		{"created here, unnamed yet", []netmap.Network{{ID: 7}}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7}}, "name 7 overlay"},
		{"named and here", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7}}, ""},
		{"named elsewhere by weft.network, and not described yet", []netmap.Network{{ID: 7, Name: "overlay"}}, nil, ""},
		{"named here by weft.network, and not described yet", []netmap.Network{{ID: 7, Name: "overlay"}}, []dockerNet{{ID: "a", Name: "web", Ours: true, Network: 7}}, "name 7 overlay"},
		{"created elsewhere", []netmap.Network{overlay}, nil, "create overlay as 7"},
		{"an unnamed one elsewhere stays there", []netmap.Network{{ID: 7}}, nil, ""},
		{
			"created at the same moment elsewhere, which won",
			[]netmap.Network{overlay, {ID: 9}},
			[]dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 9}},
			"remove a",
		},
		{
			"lost, but containers are on it already",
			[]netmap.Network{overlay, {ID: 9}},
			[]dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 9, InUse: true}},
			"problem",
		},
		{"the name is a bridge here", []netmap.Network{overlay}, []dockerNet{{ID: "b", Name: "overlay"}}, "problem"},
		{"same subnet under another name", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "other", Ours: true, Network: 7}}, ""},
		{"a replica names nothing", []netmap.Network{{ID: 7}}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Replica: true}}, ""},
		{"a name that the ledger does not take", []netmap.Network{{ID: 7}}, []dockerNet{{ID: "a", Name: "two\nlines", Ours: true, Network: 7}}, "problem"},
		{"not known to the driver yet", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true}}, ""},
	})
}

// TestPlanNetworksMadeAnew with other labels and options.
func TestPlanNetworksMadeAnew(t *testing.T) {
	plans(t, []planned{
		{"described by the first one", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Shown: labelled("v1")}}, ""},
		{"made anew by its first user with other labels", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, First: true, Shown: labelled("v2")}}, "name 7 overlay"},
		{"made anew elsewhere with other labels", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Replica: true, Shown: labelled("v1")}}, "remove a"},
		{"made anew elsewhere with other labels, used here", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Replica: true, InUse: true, Running: []string{"c"}, Shown: labelled("v1")}}, "problem"},
		{"made anew elsewhere with other labels, a container is stopped here", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Replica: true, InUse: true, Shown: labelled("v1")}}, "remove a"},
		{"made anew elsewhere, attachable", []netmap.Network{overlay}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Replica: true, Shown: netmap.DockerNetwork{Attachable: true}}}, "remove a"},
		{"too many labels", []netmap.Network{{ID: 7}}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Shown: labelled(strings.Repeat("v", 5000))}}, "problem"},
	})
}

func TestPlanRemovedNetworks(t *testing.T) {
	plans(t, []planned{
		{"removed elsewhere, unused here", []netmap.Network{{ID: 7, Name: "overlay", Retired: true}}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7}}, "remove a"},
		{"removed elsewhere, stopped containers were on it here", []netmap.Network{{ID: 7, Name: "overlay", Retired: true}}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, InUse: true}}, "remove a"},
		{"removed elsewhere, a container runs on it here", []netmap.Network{{ID: 7, Name: "overlay", Retired: true}}, []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, InUse: true, Running: []string{"web"}}}, "problem"},
		{
			"removed and made anew elsewhere, stopped containers were on it here",
			[]netmap.Network{{ID: 7, Name: "overlay", Retired: true}, {ID: 11, Name: "overlay"}},
			[]dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, InUse: true}},
			"remove a",
		},
		{
			"removed and made anew elsewhere, a container runs on the old one here",
			[]netmap.Network{{ID: 7, Name: "overlay", Retired: true}, {ID: 11, Name: "overlay"}},
			[]dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, InUse: true, Running: []string{"web"}}},
			"problem",
		},
		{"removed and made anew elsewhere", []netmap.Network{{ID: 7, Name: "overlay", Retired: true}, {ID: 11, Name: "overlay", Docker: overlay.Docker}}, nil, "create overlay as 11"},
	})
}

// TestPlanTellsWhatARemovedNetworkWaitsFor: who runs on it, what to do, and what then
// comes.
func TestPlanTellsWhatARemovedNetworkWaitsFor(t *testing.T) {
	local := []dockerNet{{ID: "a", Name: "overlay", Ours: true, Network: 7, Running: []string{"db", "web"}}}
	decided := []netmap.Network{{ID: 7, Name: "overlay", Retired: true}}
	const alone = "network overlay was removed on another host (docker network rm) and takes no new containers; it goes from this host with its last one, these run on it: db, web; stop them, or take them off it (docker network disconnect)"
	const anew = "; the cluster's new network of that name then appears here by itself"
	for want, decided := range map[string][]netmap.Network{alone: decided, alone + anew: append(decided, netmap.Network{ID: 11, Name: "overlay"})} {
		steps := planReplicas(decided, local)
		if len(steps) != 1 {
			t.Fatalf("%d steps, want one problem: %s", len(steps), say(steps))
		}
		if diff := cmp.Diff(want, steps[0].Problem); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// world is a cluster of Dockers that carry out plans in any order.
type world struct {
	decided []netmap.Network
	docker  [][]dockerNet
	next    netmap.NetworkID
}

func (w *world) create(host int, name string) {
	w.next++
	w.decided = append(w.decided, netmap.Network{ID: w.next})
	w.docker[host] = append(w.docker[host], dockerNet{ID: fmt.Sprint(host, "-", w.next), Name: name, Ours: true, Network: w.next})
}

func (w *world) carryOut(host int, s step) {
	switch {
	case s.Create != nil:
		w.docker[host] = append(w.docker[host], dockerNet{ID: fmt.Sprint(host, "-r", s.Create.ID), Name: s.Create.Name, Ours: true, Network: s.Create.ID, Replica: true})
	case s.Remove != nil:
		var kept []dockerNet
		for _, d := range w.docker[host] {
			if d.ID != s.Remove.ID {
				kept = append(kept, d)
			}
		}
		w.docker[host] = kept
	case s.Name != 0:
		for i := range w.decided {
			if w.decided[i].Name == s.As { // the ledger: first name wins
				return
			}
		}
		for i := range w.decided {
			if w.decided[i].ID == s.Name {
				w.decided[i].Name, w.decided[i].Docker = s.As, &s.Shown
			}
		}
	}
}

// TestSimultaneousCreatesEndAsOne: whatever the order, every host ends on one
// network per name, and then nobody has anything left to do.
func TestSimultaneousCreatesEndAsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{docker: make([][]dockerNet, rapid.IntRange(1, 5).Draw(t, "hosts"))}
		for h := range w.docker {
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), 0, 2, rapid.ID[string]).Draw(t, "names") {
				w.create(h, name)
			}
		}
		for range 200 {
			h := rapid.IntRange(0, len(w.docker)-1).Draw(t, "host")
			if steps := planReplicas(w.decided, w.docker[h]); len(steps) > 0 {
				w.carryOut(h, steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")])
			}
		}
		for h := range w.docker {
			for steps := planReplicas(w.decided, w.docker[h]); len(steps) > 0; steps = planReplicas(w.decided, w.docker[h]) {
				w.carryOut(h, steps[0])
			}
		}
		for h := range w.docker {
			if steps := planReplicas(w.decided, w.docker[h]); len(steps) > 0 {
				t.Fatalf("host %d still wants to %s", h, say(steps))
			}
			for i, d := range w.docker[h] {
				for _, o := range w.docker[(h+1)%len(w.docker)] {
					if d.Name == o.Name && d.Network != o.Network {
						t.Fatalf("%s is network %d on host %d and %d next to it", d.Name, d.Network, h, o.Network)
					}
				}
				for _, o := range w.docker[h][:i] {
					if o.Name == d.Name {
						t.Fatalf("host %d has %s twice", h, d.Name)
					}
				}
			}
		}
	})
}
