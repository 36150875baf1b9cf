package linux

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// noAddress is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h). IPv6 stays on, so that a bridge can
// hold neighbours, and the device gets no address.
const noAddress = 1

// errNoPort says that there is no veth pair to attach; only Plug makes one.
var errNoPort = errors.New("the port does not exist")

// device carries out an operation on a device.
func (k *Kernel) device(op datapath.Op) error {
	switch {
	case op.Object == datapath.ABridge && op.Verb == datapath.Add:
		return k.addBridge(op.Device)
	case op.Object == datapath.AVXLAN && op.Verb == datapath.Add:
		return k.addVXLAN(op.Device)
	case op.Object == datapath.APort && op.Verb == datapath.Add:
		return k.attach(op.Device, op.Port)
	case op.Object == datapath.ABridge:
		return k.overlay.remove(op.Device.Bridge)
	case op.Object == datapath.AVXLAN:
		return k.overlay.remove(op.Device.VXLAN)
	}
	return k.overlay.remove(op.Port.Name)
}

// link finds a device by name, nil if there is none.
func (s *space) link(name string) (netlink.Link, error) {
	l, err := s.LinkByName(name)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return nil, nil
	}
	return l, err
}

// remove deletes a device. It is no error if the device does not exist.
func (s *space) remove(name string) error {
	l, err := s.link(name)
	if err != nil || l == nil {
		return err
	}
	if err := s.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// addBridge makes a bridge, or repairs the existing one. Its ports have no VLANs, as each entry
// would otherwise be stored again for VLAN 1. The alias is set last: a bridge without it counts
// as incomplete.
func (k *Kernel) addBridge(d datapath.Device) error {
	l, err := k.overlay.link(d.Bridge)
	if err != nil {
		return err
	}
	b, isBridge := l.(*netlink.Bridge)
	if l != nil && !(isBridge && plain(b)) {
		if err := k.overlay.remove(d.Bridge); err != nil {
			return err
		}
		isBridge = false
	}
	if !isBridge {
		pvid := uint16(0)
		b = &netlink.Bridge{LinkAttrs: attrs(d.Bridge, d.MTU), VlanDefaultPVID: &pvid}
		b.HardwareAddr = bridgeMAC(d.VNI)
		if err := k.overlay.LinkAdd(b); err != nil {
			return err
		}
	}
	if own := bridgeMAC(d.VNI); !bytes.Equal(b.HardwareAddr, own) {
		if err := k.overlay.LinkSetHardwareAddr(b, own); err != nil {
			return fmt.Errorf("MAC %s: %w", own, err)
		}
	}
	if err := k.overlay.finish(b, d.MTU); err != nil {
		return err
	}
	if err := k.overlay.snoop(b, d.Multicast); err != nil {
		return fmt.Errorf("multicast snooping: %w", err)
	}
	return k.overlay.LinkSetAlias(b, datapath.BridgeAlias(d))
}

// soonMember is how long members of groups may take to answer a query, in hundredths of a second. A container's reports are lost
// that it sends before the kernel has found its port's carrier. The port is asked when it has one, and until its answer nobody finds
// the container's IPv6 address, since ND asks the group of the address. The kernel's 10 s spread the answers of a large network; here the
// members of one host are asked.
const soonMember = 100

// snoop has a bridge send a group to its members and to the tunnel, or everywhere. Without a
// querier a bridge floods groups, and no container is one. A querier of IPv6 needs an address.
func (s *space) snoop(b *netlink.Bridge, on bool) error {
	if on {
		own := &netlink.Addr{IPNet: querier, Flags: unix.IFA_F_NODAD}
		// On a host without IPv6 there are no groups of it.
		if err := s.AddrReplace(b, own); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("IPv6 address: %w", err)
		}
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_MCAST_SNOOPING, flag(on))
	data.AddRtAttr(nl.IFLA_BR_MCAST_QUERIER, flag(on))
	data.AddRtAttr(nl.IFLA_BR_MCAST_QUERY_RESPONSE_INTVL, nl.Uint64Attr(soonMember))
	return s.setLink(b, unix.RTM_NEWLINK, unix.AF_UNSPEC, info)
}

// setLink changes a device by an attribute that the library cannot write. Only RTM_NEWLINK takes
// attributes of a kind of device, only RTM_SETLINK those of a bridge's port.
func (s *space) setLink(l netlink.Link, message, family int, attr *nl.RtAttr) error {
	req := nl.NewNetlinkRequest(message, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: s.batch}
	msg := nl.NewIfInfomsg(family)
	msg.Index = int32(l.Attrs().Index)
	req.AddData(msg)
	req.AddData(attr)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// querier is the address of every bridge: queries say where they come from, and nobody answers to it.
var querier = &net.IPNet{IP: netip.MustParseAddr("fe80::5765:6674").AsSlice(), Mask: net.CIDRMask(64, 128)}

func flag(on bool) []byte {
	if on {
		return []byte{1}
	}
	return []byte{0}
}

// bridgeMAC returns the MAC of a bridge. A bridge without one of its own takes the smallest of
// its ports, and when that changes the kernel drops all neighbours of the bridge. No container
// derives it from an address: those begin with 02:57.
func bridgeMAC(vni netmap.VNI) net.HardwareAddr {
	return net.HardwareAddr{0x0a, 0x57, 0, byte(vni >> 16), byte(vni >> 8), byte(vni)}
}

// plain reports whether a bridge uses no VLANs.
func plain(b *netlink.Bridge) bool { return b.VlanDefaultPVID == nil || *b.VlanDefaultPVID == 0 }

func attrs(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = name, mtu
	return a
}

// finish sets what all of Weft's devices have in common, and sets them up.
func (s *space) finish(l netlink.Link, mtu int) error {
	if err := s.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("mtu %d: %w", mtu, err)
	}
	// On a host without IPv6 there is nothing to switch off.
	if err := s.LinkSetIP6AddrGenMode(l, noAddress); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("no IPv6 address: %w", err)
	}
	if err := s.LinkSetUp(l); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	return nil
}

// addVXLAN makes a VXLAN device, or repairs the existing one. The device is created in the
// overlay namespace with its UDP socket in the host's, in one request, so it never appears in
// the host's namespace.
func (k *Kernel) addVXLAN(d datapath.Device) error {
	l, err := k.overlay.link(d.VXLAN)
	if err != nil {
		return err
	}
	v, isVXLAN := l.(*netlink.Vxlan)
	same := isVXLAN && isOurs(v, d.VNI) && v.Port == int(d.UDPPort) && addrOf(v.SrcAddr) == d.Source
	if l != nil && !same {
		if err := k.overlay.remove(d.VXLAN); err != nil {
			return err
		}
	}
	if !same {
		if err := k.makeVXLAN(d); err != nil {
			return err
		}
	}
	if l, err = k.overlay.LinkByName(d.VXLAN); err != nil {
		return err
	}
	if err := k.overlay.enslave(l, d); err != nil {
		return err
	}
	err = k.overlay.finish(l, d.MTU)
	if errors.Is(err, unix.EADDRINUSE) {
		return k.portTaken(d, err)
	}
	return err
}

func (k *Kernel) makeVXLAN(d datapath.Device) error {
	a := attrs(d.VXLAN, d.MTU)
	a.Namespace = netlink.NsFd(k.overlay.ns.Fd())
	v := &netlink.Vxlan{LinkAttrs: a, VxlanId: int(d.VNI), Port: int(d.UDPPort), SrcAddr: net.IP(d.Source.AsSlice()), NoAge: true}
	err := k.host.LinkAdd(v)
	if errors.Is(err, unix.EEXIST) {
		return k.vniTaken(d, err)
	}
	return err
}

// attach makes an overlay end a port of a network's bridge.
func (k *Kernel) attach(d datapath.Device, p datapath.Bridged) error {
	l, err := k.overlay.link(p.Name)
	if err != nil {
		return err
	}
	if l == nil {
		return errNoPort
	}
	if err := k.overlay.enslave(l, d); err != nil {
		return err
	}
	if err := k.overlay.finish(l, d.MTU); err != nil {
		return err
	}
	return k.overlay.LinkSetAlias(l, datapath.PortAlias(p.Endpoint))
}

// enslave adds a device to a network's bridge.
func (s *space) enslave(l netlink.Link, d datapath.Device) error {
	b, err := s.LinkByName(d.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", d.Bridge, err)
	}
	err = s.LinkSetMaster(l, b)
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("bridge %s has 1023 ports, and the kernel allows no more: start the container on another host: %w", d.Bridge, err)
	}
	if err != nil {
		return fmt.Errorf("attach %s to bridge %s: %w", l.Attrs().Name, d.Bridge, err)
	}
	if err := s.setPort(l, d.Multicast); err != nil {
		return fmt.Errorf("bridge port %s (needs Linux 4.15): %w", l.Attrs().Name, err)
	}
	return nil
}

// setPort says what a bridge does with one of its ports. No port learns: a container cannot take
// over another's MAC by sending from it.
//
// proxy_arp_wifi has the bridge answer ARP for endpoints, with no question passed on, and pass on
// what concerns other addresses: announcements and probes. neigh_suppress answers ND as well, and
// passes on neither announcements nor probes. The tunnel is the port of a multicast router: it
// gets all groups.
func (s *space) setPort(l netlink.Link, multicast bool) error {
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(nl.IFLA_BRPORT_LEARNING, flag(false))
	port.AddRtAttr(nl.IFLA_BRPORT_PROXYARP_WIFI, flag(multicast))
	if l.Type() == "vxlan" {
		port.AddRtAttr(nl.IFLA_BRPORT_NEIGH_SUPPRESS, flag(!multicast))
		port.AddRtAttr(nl.IFLA_BRPORT_MULTICAST_ROUTER, []byte{routerAlways})
	}
	return s.setLink(l, unix.RTM_SETLINK, unix.AF_BRIDGE, port)
}

// routerAlways is MDB_RTR_TYPE_PERM (linux/if_bridge.h).
const routerAlways = 2
