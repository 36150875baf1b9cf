package netmap

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var compareAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.AllowUnexported(View{}, onNetwork{}, onHost{}),
	cmpopts.IgnoreUnexported(Record{}),
}

// differences is the slow model of Since: what one list has that the other has not, by identity.
func differences[T any](old, now []T, identity func(T) string) (out []string) {
	all := map[string]Changed[T]{}
	for _, one := range old {
		all[identity(one)] = Changed[T]{Old: &one}
	}
	for _, one := range now {
		all[identity(one)] = Changed[T]{all[identity(one)].Old, &one}
	}
	for id, c := range all {
		if !reflect.DeepEqual(c.Old, c.New) {
			out = append(out, id+shown(c))
		}
	}
	slices.Sort(out)
	return out
}

func shown[T any](c Changed[T]) string {
	text := ""
	for _, one := range []*T{c.Old, c.New} {
		if one == nil {
			text += " nothing"
		} else {
			text += fmt.Sprintf(" %+v", *one)
		}
	}
	return text
}

func listed[T any](changes []Changed[T], identity func(T) string) (out []string) {
	for _, c := range changes {
		one := c.Old
		if one == nil {
			one = c.New
		}
		out = append(out, identity(*one)+shown(c))
	}
	slices.Sort(out)
	return out
}

// checkSince compares Since with what it is by definition.
func checkSince(t *rapid.T, old, now *View) {
	t.Helper()
	c := now.Since(old)
	if old == nil {
		old = &View{}
	}
	host := func(h HostView) string { return h.ID.String() }
	network := func(n Network) string { return fmt.Sprint(n.ID) }
	static := func(s StaticName) string { return fmt.Sprint(s) }
	placed := func(e EndpointView) string { return fmt.Sprint(e.Network, e.Host, e.ID) }
	for _, x := range []struct {
		what      string
		want, got any
	}{
		{"hosts", differences(old.Hosts, now.Hosts, host), listed(c.Hosts, host)},
		{"networks", differences(old.Networks, now.Networks, network), listed(c.Networks, network)},
		{"endpoints", differences(slices.Collect(old.Endpoints()), slices.Collect(now.Endpoints()), placed), listed(c.Endpoints, placed)},
		{"subnets", !reflect.DeepEqual(old.Subnets, now.Subnets), c.Subnets},
		{"blocks", !reflect.DeepEqual(old.Blocks, now.Blocks), c.Blocks},
		{"claims", !reflect.DeepEqual(old.Claims, now.Claims), c.Claims},
		{"ledger", old.Generation != now.Generation || old.Cluster != now.Cluster, c.Ledger},
		{"static names", differences(old.StaticNames, now.StaticNames, static), listed(c.StaticNames, static)},
		{"ranges", !reflect.DeepEqual(old.Ranges, now.Ranges), c.Ranges},
	} {
		if !reflect.DeepEqual(x.want, x.got) {
			t.Fatalf("%s that differ:\n%v\nwant\n%v", x.what, x.got, x.want)
		}
	}
	if none := reflect.DeepEqual(c, Changes{}); c.None() != none {
		t.Fatalf("none: %v, of %+v", c.None(), c)
	}
}

// someView draws a view of few things, so that two have much in common.
func someView(t *rapid.T, label string) *View {
	v := &View{Decided: rapid.Uint64().Draw(t, label+" decided"), Generation: rapid.Uint64Range(1, 2).Draw(t, label+" generation")}
	for n := range byte(3) {
		switch rapid.IntRange(0, 2).Draw(t, label+" of each kind") {
		case 1:
			v.Hosts = append(v.Hosts, HostView{ID: hostID(n)})
			v.Networks = append(v.Networks, Network{ID: NetworkID(n), Docker: &DockerNetwork{}})
			v.Claims = append(v.Claims, Claim{Owner: hostID(n)})
			v.StaticNames = append(v.StaticNames, StaticName{Network: NetworkID(n), Name: "nas"})
		case 2:
			v.Hosts = append(v.Hosts, HostView{ID: hostID(n), Fact: HostFact{MTU: 1}})
			v.Networks = append(v.Networks, Network{ID: NetworkID(n), Docker: &DockerNetwork{IPv6: true}})
			v.Subnets = append(v.Subnets, Subnet{BlockBits: int(n)})
			v.Ranges, v.Blocks = append(v.Ranges, Range{Order: int(n)}), append(v.Blocks, Block{Owner: hostID(n)})
		}
	}
	var endpoints []EndpointView
	for n := range byte(12) {
		if name := rapid.SampledFrom([]string{"none", "", "web"}).Draw(t, label+" endpoint"); name != "none" {
			endpoints = append(endpoints, EndpointView{Endpoint: Endpoint{ID: dockerID(n % 3), Network: NetworkID(n / 6), Name: name}, Host: hostID(n % 4)})
		}
	}
	return v.WithEndpoints(endpoints...)
}

func TestSinceFindsWhatDiffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, now := someView(t, "old"), someView(t, "new")
		checkSince(t, old, now)
		checkSince(t, nil, now)
		checkSince(t, now, now)
	})
}
