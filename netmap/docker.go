package netmap

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// DockerNetwork is what `docker network inspect` shows of a network, without what
// differs between hosts or follows from the rest of a Network. A nil map and an empty
// one are not the same: Docker shows the one as null, the other as {}.
type DockerNetwork struct {
	Labels      map[string]string `json:"labels,omitzero"`
	Options     map[string]string `json:"options,omitzero"`      // -o
	IPAMOptions map[string]string `json:"ipam_options,omitzero"` // --ipam-opt
	Pools       []DockerPool      `json:"pools,omitempty"`       // in Docker's order, IPv4 first
	Attachable  bool              `json:"attachable,omitempty"`
	IPv6        bool              `json:"ipv6,omitempty"` // --ipv6
}

// DockerPool is one subnet of a network, as Docker knows it. Only Subnet is always set.
type DockerPool struct {
	Subnet  netip.Prefix          `json:"subnet"`
	Range   netip.Prefix          `json:"range,omitzero"` // --ip-range
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Aux     map[string]netip.Addr `json:"aux,omitempty"` // --aux-address by name
}

// Check says what of it other hosts cannot be told, and is nil if that is nothing.
func (d DockerNetwork) Check() error {
	err := cmp.Or(checkStrings("label", d.Labels), checkStrings("option", d.Options), checkStrings("IPAM option", d.IPAMOptions))
	for _, p := range d.Pools {
		names := map[string]string{}
		for name := range p.Aux {
			names[name] = ""
		}
		err = cmp.Or(err, checkStrings("--aux-address", names))
	}
	return err
}

func checkStrings(what string, m map[string]string) error {
	if len(m) > maxList {
		return fmt.Errorf("it has %d of the kind %s, want at most %d", len(m), what, maxList)
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		switch {
		case !printable(k):
			return fmt.Errorf("the name of %s %.40q has control characters, want printable text", what, k)
		case len(k) > maxString:
			return fmt.Errorf("the name of %s %.40q... has %d bytes, want at most %d", what, k, len(k), maxString)
		case len(m[k]) > maxString:
			return fmt.Errorf("%s %.40q has a value of %d bytes, want at most %d", what, k, len(m[k]), maxString)
		}
	}
	return nil
}

// appendDocker writes 0 where Docker has not been asked yet, else 1 and what it shows.
func appendDocker(b []byte, d *DockerNetwork) []byte {
	if d == nil {
		return append(b, 0)
	}
	b = appendBool(appendBool(append(b, 1), d.Attachable), d.IPv6)
	for _, m := range []map[string]string{d.Labels, d.Options, d.IPAMOptions} {
		b = appendStrings(b, m)
	}
	b = appendUvarint(b, uint64(len(d.Pools)))
	for _, p := range d.Pools {
		b = appendAddr(appendPrefix(appendPrefix(b, p.Subnet), p.Range), p.Gateway)
		b = appendAddrs(b, p.Aux)
	}
	return b
}

// appendStrings writes 0 for a nil map, else its length plus one and its entries.
func appendStrings(b []byte, m map[string]string) []byte {
	if m == nil {
		return append(b, 0)
	}
	b = appendUvarint(b, uint64(len(m))+1)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = appendString(appendString(b, k), m[k])
	}
	return b
}

func appendAddrs(b []byte, m map[string]netip.Addr) []byte {
	b = appendUvarint(b, uint64(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = appendAddr(appendString(b, k), m[k])
	}
	return b
}

func (r *reader) docker() *DockerNetwork {
	if !r.bool() {
		return nil
	}
	d := &DockerNetwork{Attachable: r.bool(), IPv6: r.bool(), Labels: r.strings(), Options: r.strings(), IPAMOptions: r.strings()}
	for range r.count(maxList) {
		d.Pools = append(d.Pools, DockerPool{Subnet: r.prefix(), Range: r.prefix(), Gateway: r.addr(), Aux: r.addrs()})
	}
	return d
}

func (r *reader) strings() map[string]string {
	n := r.count(maxList + 1)
	if n == 0 {
		return nil
	}
	out := map[string]string{}
	for range n - 1 {
		k := r.name()
		out[k] = r.string()
	}
	return out
}

func (r *reader) addrs() map[string]netip.Addr {
	var out map[string]netip.Addr
	for range r.count(maxList) {
		if out == nil {
			out = map[string]netip.Addr{}
		}
		k := r.name()
		out[k] = r.addr()
	}
	return out
}
