package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// Read returns what the overlay namespace holds. Devices that differ from what Weft makes count
// as missing, or as stray if they have a name of Weft's. A host without overlay namespace has
// the empty state.
func (k *Kernel) Read(ctx context.Context) (datapath.State, error) {
	release, err := enter(ctx, k.setting)
	if err != nil {
		return datapath.State{}, err
	}
	defer release()
	reader, err := k.look(ctx)
	if errors.Is(err, netns.ErrNotExist) {
		return datapath.State{}, nil
	}
	if err != nil {
		return datapath.State{}, err
	}
	return reader.read()
}

// look opens the overlay namespace and makes none.
func (k *Kernel) look(ctx context.Context) (*space, error) {
	end, err := enter(ctx, k.turn)
	if err != nil {
		return nil, err
	}
	defer end()
	if k.overlay == nil {
		if err := k.find(); err != nil {
			return nil, err
		}
	}
	return k.reader, nil
}

func (s *space) read() (datapath.State, error) {
	r := reading{networks: map[netmap.VNI]*datapath.Network{}, bridges: map[int]netmap.VNI{}, vxlans: map[int]netmap.VNI{}, ports: map[int]bridged{}, names: map[int]string{}}
	links, err := retry(s.LinkList)
	if err != nil {
		return datapath.State{}, fmt.Errorf("linux: list the devices of the overlay: %w", err)
	}
	ports, err := retry(s.bridgePorts)
	if err != nil {
		return datapath.State{}, fmt.Errorf("linux: list the bridge ports of the overlay: %w", err)
	}
	r.devices(links, ports)
	for _, family := range []int{unix.AF_BRIDGE, unix.AF_INET, unix.AF_INET6} {
		entries, err := retry(func() ([]netlink.Neigh, error) { return s.NeighList(0, family) })
		if err != nil {
			return datapath.State{}, fmt.Errorf("linux: list the forwarding entries of the overlay: %w", err)
		}
		for _, e := range entries {
			r.entry(e)
		}
	}
	return r.state(), nil
}

// retry repeats a dump that a change interrupted. The last attempt counts as it is, since the
// next reading repairs what it missed.
func retry[T any](dump func() ([]T, error)) (out []T, err error) {
	for range 3 {
		if out, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, nil
}

// bridgePorts returns the flags of all bridge ports. The library's request is for one port and
// lists them all each time.
func (s *space) bridgePorts() ([]netlink.Link, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: s.batch}
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	hdr := &unix.NlMsghdr{Type: unix.RTM_NEWLINK}
	var out []netlink.Link
	for _, m := range msgs {
		link, parseErr := netlink.LinkDeserialize(hdr, m)
		if parseErr != nil {
			return nil, parseErr
		}
		out = append(out, link)
	}
	return out, err
}

type bridged struct {
	vni  netmap.VNI
	name string
}

// reading builds a state from dumps.
type reading struct {
	networks map[netmap.VNI]*datapath.Network
	bridges  map[int]netmap.VNI // sound ones, by interface index
	vxlans   map[int]netmap.VNI
	ports    map[int]bridged // of the bridges, VXLAN devices too
	names    map[int]string
	stray    []string
}

func (r *reading) devices(links, ports []netlink.Link) {
	flags := make(map[int]*netlink.Protinfo, len(ports))
	for _, p := range ports {
		flags[p.Attrs().Index] = p.Attrs().Protinfo
	}
	for _, l := range links {
		if b, ok := l.(*netlink.Bridge); ok {
			r.bridge(b)
		}
	}
	for _, l := range links {
		a := l.Attrs()
		if _, sound := r.bridges[a.Index]; sound || !strings.HasPrefix(a.Name, "wf") {
			continue
		}
		if !r.port(l, flags[a.Index]) {
			r.stray = append(r.stray, a.Name)
		}
	}
}

func (r *reading) bridge(b *netlink.Bridge) {
	vni, ok := datapath.VNIOf(b.Name)
	id, portMTU, known := datapath.ParseBridgeAlias(b.Alias)
	if !ok || !known || b.Name != datapath.BridgeName(vni) || !plain(b) || b.Flags&net.FlagUp == 0 {
		return
	}
	r.bridges[b.Index] = vni
	r.networks[vni] = &datapath.Network{Device: datapath.Device{ID: id, VNI: vni, Bridge: b.Name, MTU: b.MTU, PortMTU: portMTU}}
}

// port reports whether a link is a working port of the right, complete bridge.
func (r *reading) port(l netlink.Link, flags *netlink.Protinfo) bool {
	a := l.Attrs()
	vni, attached := r.bridges[a.MasterIndex]
	if !attached || flags == nil || flags.Learning || a.Flags&net.FlagUp == 0 {
		return false
	}
	n := r.networks[vni]
	if a.MTU != n.MTU {
		return false
	}
	switch l := l.(type) {
	case *netlink.Vxlan:
		if a.Name != datapath.VXLANName(vni) || !flags.NeighSuppress || !isOurs(l, vni) {
			return false
		}
		n.VXLAN, n.UDPPort, n.Source = a.Name, uint16(l.Port), addrOf(l.SrcAddr)
		r.vxlans[a.Index] = vni
	case *netlink.Veth:
		id := datapath.ParsePortAlias(a.Alias)
		if id == "" || a.Name != datapath.OuterName(id) {
			return false
		}
		n.Ports = append(n.Ports, datapath.Bridged{Name: a.Name, Endpoint: id})
	default:
		return false
	}
	r.ports[a.Index] = bridged{vni, a.Name}
	return true
}

func isOurs(v *netlink.Vxlan, vni netmap.VNI) bool {
	return netmap.VNI(v.VxlanId) == vni && !v.Learning && !v.FlowBased && v.Group == nil
}

func (r *reading) entry(e netlink.Neigh) {
	var mac netmap.MAC
	if len(e.HardwareAddr) == len(mac) {
		mac = netmap.MAC(e.HardwareAddr)
	}
	if e.Family != unix.AF_BRIDGE {
		if vni, ok := r.bridges[e.LinkIndex]; ok && e.State == unix.NUD_PERMANENT {
			n := r.networks[vni]
			n.Neighbours = append(n.Neighbours, datapath.Neighbour{Addr: addrOf(e.IP), MAC: mac})
		}
		return
	}
	vni, isVXLAN := r.vxlans[e.LinkIndex]
	port, isPort := r.ports[e.LinkIndex]
	switch {
	case isVXLAN && e.Flags&unix.NTF_SELF != 0 && e.IP != nil:
		n := r.networks[vni]
		if mac.IsZero() {
			n.Flood = append(n.Flood, addrOf(e.IP))
		} else {
			n.FDB = append(n.FDB, datapath.Tunnel{MAC: mac, VTEP: addrOf(e.IP)})
		}
	case isPort && e.MasterIndex != 0 && e.State&unix.NUD_NOARP != 0 && e.State&unix.NUD_PERMANENT == 0:
		n := r.networks[port.vni]
		n.Bridging = append(n.Bridging, datapath.Bridging{MAC: mac, Port: port.name})
	}
}

func (r *reading) state() datapath.State {
	s := datapath.State{Stray: r.stray}
	for _, n := range r.networks {
		s.Networks = append(s.Networks, *n)
	}
	s.Sort()
	return s
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
