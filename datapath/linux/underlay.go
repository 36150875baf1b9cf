package linux

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
)

// Underlay is the address at which a host reaches the others.
type Underlay struct {
	Addr   netip.Addr
	Device string
	MTU    int // of the device, bytes
}

// Route is a destination in the host's main routing table.
type Route struct {
	Prefix netip.Prefix
	Device string // empty for routes without one, such as blackholes
}

// ErrNoAddress says that no address of the host can be reached by others, as before
// its network is up.
var ErrNoAddress = errors.New("no device that is up has an address that other hosts could reach")

// FindUnderlay picks the address that other hosts send to. want is empty for the source address
// of the default route (IPv4 first), or an address of this host, a CIDR that it lies in, or the
// name of a device. The current address stays as long as the host has it and want allows it.
// Only an address of the same family replaces it, as the hosts of a cluster reach each other by
// one family.
func FindUnderlay(cfg Config, want string, current netip.Addr) (Underlay, error) {
	s, err := openPath(cfg.withDefaults().HostNS)
	if err != nil {
		return Underlay{}, fmt.Errorf("linux: the host's network namespace: %w", err)
	}
	defer func() { _ = s.close() }() // only read from
	all, err := s.addresses()
	if err != nil {
		return Underlay{}, err
	}
	if want == "" {
		want = defaultRoute
		all = slices.DeleteFunc(all, func(u Underlay) bool { return ofDocker(u.Device) })
	}
	if len(all) == 0 || !slices.ContainsFunc(all, func(u Underlay) bool { return !ofDocker(u.Device) }) {
		return Underlay{}, fmt.Errorf("linux: %w", ErrNoAddress)
	}
	family := slices.DeleteFunc(slices.Clone(all), func(u Underlay) bool { return current.IsValid() && u.Addr.Is4() != current.Is4() })
	match, err := s.wanted(want, family)
	if err != nil {
		return Underlay{}, err
	}
	if i := slices.IndexFunc(family, func(u Underlay) bool { return u.Addr == current }); i >= 0 && (want == defaultRoute || match(family[i])) {
		return family[i], nil
	}
	if i := slices.IndexFunc(family, match); i >= 0 {
		return family[i], nil
	}
	return Underlay{}, unfit(all, want, current)
}

// defaultRoute stands for WEFT_ADVERTISE where that is empty.
const defaultRoute = "the default route"

// unfit is the error that lists what the host has instead of the wanted address.
func unfit(all []Underlay, want string, current netip.Addr) error {
	var names []string
	for _, u := range all {
		names = append(names, fmt.Sprintf("%s (%s)", u.Addr, u.Device))
	}
	kind := "address"
	switch {
	case current.Is4():
		kind = "IPv4 address"
	case current.Is6():
		kind = "IPv6 address"
	}
	return fmt.Errorf("linux: no %s of this host fits %s; there are: %s; set WEFT_ADVERTISE", kind, want, strings.Join(names, ", "))
}

// ofDocker reports whether a device is a bridge that Docker makes for containers of
// this host: no other host reaches its address.
func ofDocker(device string) bool {
	id, isBridge := strings.CutPrefix(device, "br-")
	_, err := hex.DecodeString(id)
	return device == "docker0" || device == "docker_gwbridge" || isBridge && len(id) == 12 && err == nil
}

// ofWeft reports whether a device is the end of one of Weft's veth pairs, such as that of the host's own
// address on a network.
func ofWeft(device string) bool { return strings.HasPrefix(device, datapath.InnerPrefix) }

func (s *space) wanted(want string, all []Underlay) (func(Underlay) bool, error) {
	if want == defaultRoute {
		src := s.defaultSource(all)
		return func(u Underlay) bool { return u.Addr == src }, nil
	}
	if p, err := netip.ParsePrefix(want); err == nil {
		return func(u Underlay) bool { return p.Contains(u.Addr) }, nil
	}
	if a, err := netip.ParseAddr(want); err == nil {
		return func(u Underlay) bool { return u.Addr == a.Unmap() }, nil
	}
	l, err := s.link(want)
	if err != nil {
		return nil, fmt.Errorf("linux: device %s: %w", want, err)
	}
	if l == nil {
		return nil, fmt.Errorf("linux: WEFT_ADVERTISE=%s is no address, no CIDR such as 192.0.2.0/24, and no device of this host", want)
	}
	return func(u Underlay) bool { return u.Device == want }, nil
}

// far are addresses that nobody has (RFC 5737, IANA), to which only default routes lead.
var far = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, 1}), netip.AddrFrom16([16]byte{0: 0x20, 15: 1})}

// defaultSource asks the kernel from which of these addresses it would send; nothing is sent. A
// host without a default route and with one address uses that one.
func (s *space) defaultSource(all []Underlay) netip.Addr {
	for _, to := range far {
		routes, err := s.RouteGet(to.AsSlice())
		if err != nil || len(routes) == 0 || routes[0].Src == nil {
			continue
		}
		src := addrOf(routes[0].Src)
		if slices.ContainsFunc(all, func(u Underlay) bool { return u.Addr == src }) {
			return src
		}
	}
	if len(all) == 1 {
		return all[0].Addr
	}
	return netip.Addr{}
}

// addresses returns the addresses that other hosts may reach, of devices that are up: IPv4
// first, then in the kernel's order. Addresses of container networks on this host are included.
func (s *space) addresses() ([]Underlay, error) {
	links, err := retry(s.LinkList)
	if err != nil {
		return nil, fmt.Errorf("linux: list the host's devices: %w", err)
	}
	devices := map[int]*netlink.LinkAttrs{}
	for _, l := range links {
		devices[l.Attrs().Index] = l.Attrs()
	}
	addrs, err := retry(func() ([]netlink.Addr, error) { return s.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return nil, fmt.Errorf("linux: list the host's addresses: %w", err)
	}
	var out []Underlay
	for _, a := range addrs {
		d, ip := devices[a.LinkIndex], addrOf(a.IP)
		passing := unix.IFA_F_TENTATIVE | unix.IFA_F_DEPRECATED
		if ip.Is6() {
			passing |= unix.IFA_F_TEMPORARY // of IPv4 the same bit says that it is another one of its subnet
		}
		if d != nil && !ofWeft(d.Name) && d.Flags&net.FlagUp != 0 && ip.IsGlobalUnicast() && a.Flags&passing == 0 {
			out = append(out, Underlay{Addr: ip, Device: d.Name, MTU: d.MTU})
		}
	}
	slices.SortStableFunc(out, func(a, b Underlay) int { return cmp.Compare(a.Addr.BitLen(), b.Addr.BitLen()) })
	return out, nil
}

// Routes returns the destinations that a subnet must not overlap: the host's main routing table
// without default, multicast and link-local routes.
func Routes(cfg Config) ([]Route, error) {
	s, err := openPath(cfg.withDefaults().HostNS)
	if err != nil {
		return nil, fmt.Errorf("linux: the host's network namespace: %w", err)
	}
	defer func() { _ = s.close() }() // only read from
	links, err := retry(s.LinkList)
	if err != nil {
		return nil, fmt.Errorf("linux: list the host's devices: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	routes, err := retry(func() ([]netlink.Route, error) { return s.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("linux: list the host's routes: %w", err)
	}
	var out []Route
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok {
			out = append(out, Route{p, names[r.LinkIndex]})
		}
	}
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.Device, b.Device))
	})
	return slices.Compact(out), nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	p := netip.PrefixFrom(addrOf(n.IP), bits)
	return p, p.IsValid() && bits > 0 && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast()
}
