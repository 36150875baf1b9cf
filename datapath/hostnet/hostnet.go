// Package hostnet gives the host itself its addresses and routes on the networks that it takes
// part in, and keeps the networks apart where they meet in the host's namespace.
//
// An interface has its address alone (/32, /128), so it makes no route. The routes to the subnets
// are in a table of their own, which only packets see that the host itself made (ip rule … iif
// lo): the host forwards nothing into a network. What comes in from a network is forwarded
// nowhere (ip rule … iif wfc… unreachable). Neither rests on netfilter, so both hold while
// somebody flushes its rules.
//
// The exception is a port that Docker publishes, asked for by the host's address on a network.
// Docker's DNAT leads it to docker_gwbridge; nftables marks what was translated, and a mark opens
// the way there and back. Without nftables such a connection is refused, and all else is as it
// was. The source is masked there, since the container would answer by its own interface on the
// network.
package hostnet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

// What Weft uses of the host's routing, which operators see in ip rule and ip route.
const (
	table = 7950       // routes to the subnets
	mark  = 0x77656674 // "weft": of translated packets that came in from a network

	ruleOwn     = 795 // from all iif lo lookup table
	ruleBack    = 796 // from all fwmark mark lookup table
	rulePublish = 797 // from all fwmark mark lookup main
	ruleApart   = 798 // from all iif NAME unreachable
)

// What says to operators what Cleanup removes.
const What = "routing rules and nftables of the host's own addresses"

// Config says whose namespace it is.
type Config struct {
	// HostNS is the path of the host's network namespace; empty: that of this process.
	HostNS string
	// ProcSys is where the host's /proc/sys is seen; empty: there.
	ProcSys string
}

// Host is the host's namespace. All methods are safe for concurrent use.
type Host struct {
	turn turn.Turn
	ns   *netns.Namespace
	proc string
	*netlink.Handle
}

// Report says what Set found and did.
type Report struct {
	// Missing are the interfaces that do not exist.
	Missing []string
	// Done is how many things were changed.
	Done int
	// Unpublished says why ports that Docker publishes are not reached by the host's addresses
	// on networks; nil: they are.
	Unpublished error
	// Docker reports whether Docker's own rules for egress and published ports are in place, as
	// far as that can be seen.
	Docker bool
}

// Open opens the host's namespace.
func Open(cfg Config) (*Host, error) {
	if cfg.HostNS == "" {
		cfg.HostNS = "/proc/thread-self/ns/net"
	}
	if cfg.ProcSys == "" {
		cfg.ProcSys = "/proc/sys"
	}
	ns, err := netns.Open(cfg.HostNS)
	if err != nil {
		return nil, fmt.Errorf("hostnet: %w", err)
	}
	h := &Host{turn: turn.New(), ns: ns, proc: cfg.ProcSys}
	err = ns.Do(func() (err error) {
		h.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hostnet: %w", err), ns.Close())
	}
	return h, nil
}

// Close leaves everything as it is.
func (h *Host) Close() error {
	h.Handle.Close()
	return h.ns.Close()
}

// Set makes the host's side equal to ports. Repeated, it only reads. It tries everything, and
// returns an error that names what failed.
func (h *Host) Set(ctx context.Context, ports []datapath.HostPort) (Report, error) {
	leave, err := h.turn.WaitWithin(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("hostnet: %w", err)
	}
	defer leave()
	var r Report
	links := map[string]netlink.Link{}
	for _, p := range ports {
		l, err := h.LinkByName(p.Name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			r.Missing = append(r.Missing, p.Name)
			continue
		}
		if err != nil {
			return r, fmt.Errorf("hostnet: find %s: %w", p.Name, err)
		}
		links[p.Name] = l
	}
	ports = slices.DeleteFunc(slices.Clone(ports), func(p datapath.HostPort) bool { return links[p.Name] == nil })
	errs := []error{h.rules(ports, &r)} // first: nothing is forwarded at any moment
	for _, p := range ports {
		errs = append(errs, h.device(p, links[p.Name], &r))
	}
	errs = append(errs, h.routes(ports, links, &r))
	r.Unpublished = h.publish(len(ports) > 0, &r)
	r.Docker = h.dockers()
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("hostnet: %w", err)
	}
	return r, nil
}

// Cleanup removes all rules of Weft's, and returns what it removed. The interfaces and with them
// addresses and routes go with the networks.
func (h *Host) Cleanup(ctx context.Context) (removed []string, err error) {
	r, err := h.Set(ctx, nil)
	if r.Done > 0 {
		removed = append(removed, What)
	}
	return removed, errors.Join(err, r.Unpublished)
}

// Exists reports whether Cleanup would find something.
func (h *Host) Exists() (bool, error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		have, err := h.RuleList(family)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return false, fmt.Errorf("hostnet: list routing rules: %w", err)
		}
		if slices.ContainsFunc(have, ours) {
			return true, nil
		}
	}
	there, err := h.published()
	return there && err == nil, nil // without nftables there is no table
}

func ours(r netlink.Rule) bool { return r.Priority >= ruleOwn && r.Priority <= ruleApart }

// device brings an interface up with its addresses.
func (h *Host) device(p datapath.HostPort, l netlink.Link, r *Report) error {
	a := l.Attrs()
	if a.MTU != p.MTU && p.MTU > 0 {
		if err := h.LinkSetMTU(l, p.MTU); err != nil {
			return fmt.Errorf("MTU %d of %s: %w", p.MTU, p.Name, err)
		}
		r.Done++
	}
	if a.Flags&net.FlagUp == 0 {
		h.harden(p.Name)
		if err := h.LinkSetUp(l); err != nil {
			return fmt.Errorf("bring %s up: %w", p.Name, err)
		}
		r.Done++
	}
	have, err := h.AddrList(l, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", p.Name, err)
	}
	for _, old := range have {
		if at, ok := netip.AddrFromSlice(old.IP); ok && !at.IsLinkLocalUnicast() && !slices.Contains(p.Addrs, at.Unmap()) {
			if err := h.AddrDel(l, &old); err != nil {
				return fmt.Errorf("remove %s from %s: %w", at, p.Name, err)
			}
			r.Done++
		}
	}
	for _, want := range p.Addrs {
		if slices.ContainsFunc(have, func(o netlink.Addr) bool { return o.IP.Equal(want.AsSlice()) }) {
			continue
		}
		add := &netlink.Addr{IPNet: netOf(netip.PrefixFrom(want, want.BitLen())), Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE}
		if err := h.AddrReplace(l, add); err != nil {
			return fmt.Errorf("give %s to %s: %w", want, p.Name, err)
		}
		r.Done++
	}
	return nil
}

// harden makes an interface that is down answer ARP for its own address only, and take neither
// addresses nor routes from what a container says. It does what it can: /proc/sys may be
// read-only.
func (h *Host) harden(name string) {
	for path, value := range map[string]string{
		"net/ipv4/conf/%s/arp_ignore": "1", "net/ipv4/conf/%s/arp_announce": "2", "net/ipv4/conf/%s/accept_redirects": "0",
		"net/ipv4/conf/%s/send_redirects": "0", "net/ipv6/conf/%s/accept_ra": "0", "net/ipv6/conf/%s/accept_redirects": "0",
	} {
		_, _ = h.sysctl(fmt.Sprintf(path, name), value) // see the comment above
	}
	_, _ = h.trustMark(name)
}

// trustMark has the reverse path filter of an interface know the way back of marked packets.
func (h *Host) trustMark(name string) (changed bool, err error) {
	return h.sysctl("net/ipv4/conf/"+name+"/src_valid_mark", "1")
}

// sysctl sets a value of the namespace. It changes nothing if there is no such setting.
func (h *Host) sysctl(path, value string) (changed bool, err error) {
	path = filepath.Join(h.proc, path)
	err = h.ns.Do(func() error { // /proc/sys/net is that of the thread's namespace
		have, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(have)) == value {
			return nil
		}
		changed = true
		return os.WriteFile(path, []byte(value), 0o644)
	})
	return changed && err == nil, err
}

// routes makes the table equal to what the ports reach.
func (h *Host) routes(ports []datapath.HostPort, links map[string]netlink.Link, r *Report) error {
	want := wantedRoutes(ports, links)
	have, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes of table %d: %w", table, err)
	}
	same := func(a, b netlink.Route) bool {
		return a.Dst != nil && b.Dst != nil && a.Dst.String() == b.Dst.String() && a.LinkIndex == b.LinkIndex && a.Src.Equal(b.Src)
	}
	for _, old := range have {
		if !slices.ContainsFunc(want, func(w netlink.Route) bool { return same(w, old) }) {
			if err := h.RouteDel(&old); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove the route %s: %w", old, err)
			}
			r.Done++
		}
	}
	for _, w := range want {
		if slices.ContainsFunc(have, func(old netlink.Route) bool { return same(w, old) }) {
			continue
		}
		if err := h.RouteReplace(&w); err != nil {
			return fmt.Errorf("route to %s: %w", w.Dst, err)
		}
		r.Done++
	}
	return nil
}

func wantedRoutes(ports []datapath.HostPort, links map[string]netlink.Link) (want []netlink.Route) {
	for _, p := range ports {
		for _, s := range p.Subnets {
			if i := slices.IndexFunc(p.Addrs, s.Contains); i >= 0 {
				want = append(want, netlink.Route{
					Dst: netOf(s), Src: p.Addrs[i].AsSlice(), LinkIndex: links[p.Name].Attrs().Index, Table: table, Scope: netlink.SCOPE_LINK,
				})
			}
		}
	}
	return want
}

// rules makes the routing rules equal to what the ports need.
func (h *Host) rules(ports []datapath.HostPort, r *Report) error {
	var errs []error
	for family, bits := range map[int]int{netlink.FAMILY_V4: 32, netlink.FAMILY_V6: 128} {
		if err := h.rulesOf(family, wantedRules(family, bits, ports), r); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func wantedRules(family, bits int, ports []datapath.HostPort) (want []netlink.Rule) {
	rule := func(priority int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority = family, priority
		return r
	}
	for _, p := range ports {
		apart := rule(ruleApart)
		apart.IifName, apart.Type = p.Name, unix.RTN_UNREACHABLE
		want = append(want, *apart)
	}
	if !slices.ContainsFunc(ports, func(p datapath.HostPort) bool {
		return slices.ContainsFunc(p.Addrs, func(a netip.Addr) bool { return a.BitLen() == bits })
	}) {
		return want
	}
	own, back, publish := rule(ruleOwn), rule(ruleBack), rule(rulePublish)
	own.IifName, own.Table = "lo", table
	back.Mark, back.Table = mark, table
	publish.Mark, publish.Table = mark, unix.RT_TABLE_MAIN
	return append(want, *own, *back, *publish)
}

func (h *Host) rulesOf(family int, want []netlink.Rule, r *Report) error {
	have, err := h.RuleList(family)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // a kernel without IPv6
	}
	if err != nil {
		return fmt.Errorf("list routing rules: %w", err)
	}
	same := func(a, b netlink.Rule) bool {
		return a.Priority == b.Priority && a.IifName == b.IifName && a.Mark == b.Mark && a.Table == b.Table
	}
	for _, w := range want {
		if slices.ContainsFunc(have, func(old netlink.Rule) bool { return same(w, old) }) {
			continue
		}
		if err := h.RuleAdd(&w); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("routing rule %d: %w", w.Priority, err)
		}
		r.Done++
	}
	for _, old := range have {
		if !ours(old) || slices.ContainsFunc(want, func(w netlink.Rule) bool { return same(w, old) }) {
			continue
		}
		old.Family = family
		if err := h.RuleDel(&old); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove routing rule %d: %w", old.Priority, err)
		}
		r.Done++
	}
	return nil
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
