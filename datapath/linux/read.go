package linux

import (
	"context"
	"encoding/binary"
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
func (k *Kernel) Read(ctx context.Context) (state datapath.State, err error) {
	err = k.reading(ctx, func(s *space) (err error) {
		state, err = s.read()
		return err
	})
	return state, err
}

// Devices returns what Read does without the tables of the networks, which Entries reads.
func (k *Kernel) Devices(ctx context.Context) (datapath.State, error) {
	var r *reading
	err := k.reading(ctx, func(s *space) (err error) {
		r, err = s.devices()
		return err
	})
	if err != nil || r == nil {
		return datapath.State{}, err
	}
	state := r.state()
	err = k.locked(ctx, func() error {
		gone, err := k.guardLost()
		if gone { // so does what it guards
			state.Networks = nil
		}
		return err
	})
	return state, err
}

// Entries calls visit with the operation that adds each entry of one network, as the kernel
// sends them: it never has a whole table in memory. Of the operation's device only the VNI is
// set. Complete is false if entries may be missing because of a change meanwhile.
func (k *Kernel) Entries(ctx context.Context, vni netmap.VNI, visit func(datapath.Op)) (complete bool, err error) {
	err = k.reading(ctx, func(s *space) error {
		r, err := s.devices()
		if err != nil {
			return err
		}
		return s.tables(r.tablesOf(vni), func(e *netlink.Neigh) {
			if op, ok := r.entry(e); ok && op.Device.VNI == vni {
				visit(op)
			}
		})
	})
	switch {
	case errors.Is(err, netlink.ErrDumpInterrupted):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("linux: list the forwarding entries of VNI %d: %w", vni, err)
	}
	return true, nil
}

// reading calls fn while no Set changes what is read, unless there is no overlay namespace.
func (k *Kernel) reading(ctx context.Context, fn func(*space) error) error {
	release, err := enter(ctx, k.setting)
	if err != nil {
		return err
	}
	defer release()
	reader, err := k.look(ctx)
	if errors.Is(err, netns.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fn(reader)
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

// attempts is how often a dump is repeated that a change interrupted. The last attempt counts
// as it is, since the next reading repairs what it missed.
const attempts = 3

func (s *space) read() (state datapath.State, err error) {
	for range attempts {
		r, err := s.devices()
		if err != nil {
			return datapath.State{}, err
		}
		err = s.tables(allTables, func(e *netlink.Neigh) {
			if op, ok := r.entry(e); ok {
				r.networks[op.Device.VNI].AddEntry(op)
			}
		})
		if state = r.state(); err == nil {
			return state, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return datapath.State{}, fmt.Errorf("linux: list the forwarding entries of the overlay: %w", err)
		}
	}
	return state, nil
}

// devices reads devices and ports, without their tables.
func (s *space) devices() (*reading, error) {
	r := &reading{networks: map[netmap.VNI]*datapath.Network{}, bridges: map[int]netmap.VNI{}, vxlans: map[int]netmap.VNI{}, ports: map[int]bridged{}}
	links, err := retry(s.LinkList)
	if err != nil {
		return nil, fmt.Errorf("linux: list the devices of the overlay: %w", err)
	}
	ports, err := retry(s.bridgePorts)
	if err != nil {
		return nil, fmt.Errorf("linux: list the bridge ports of the overlay: %w", err)
	}
	r.add(links, ports)
	return r, nil
}

// table is one forwarding or neighbour table of the kernel, or the part of it that belongs to
// one device.
type table struct {
	family int // AF_BRIDGE: of a port of a bridge; AF_INET, AF_INET6: of a bridge
	link   int // interface index; 0: all
}

// allTables are the tables of all networks.
var allTables = []table{{family: unix.AF_BRIDGE}, {family: unix.AF_INET}, {family: unix.AF_INET6}}

// tablesOf returns the tables of one network.
func (r *reading) tablesOf(vni netmap.VNI) (out []table) {
	for link, p := range r.ports {
		if p.vni == vni {
			out = append(out, table{unix.AF_BRIDGE, link})
		}
	}
	for link, v := range r.bridges {
		if v == vni {
			out = append(out, table{unix.AF_INET, link}, table{unix.AF_INET6, link})
		}
	}
	return out
}

// tables calls visit with each entry of some tables, one message of the kernel after the other:
// a table can be large. An entry is good until the next one.
func (s *space) tables(tables []table, visit func(*netlink.Neigh)) error {
	for _, t := range tables {
		req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: s.batch}
		if t.family == unix.AF_BRIDGE {
			of := nl.NewIfInfomsg(t.family) // the kernel takes a filter of these tables in this form
			of.Index = int32(t.link)
			req.AddData(of)
		} else {
			req.AddData(&netlink.Ndmsg{Family: uint8(t.family)})
			if t.link != 0 {
				req.AddData(nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(t.link))))
			}
		}
		var e netlink.Neigh
		var malformed error
		err := req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH, func(m []byte) bool {
			if decodeNeigh(m, &e) {
				visit(&e)
			} else {
				malformed = errMalformed
			}
			return true
		})
		if err := errors.Join(err, malformed); err != nil {
			return err
		}
	}
	return nil
}

var errMalformed = errors.New("netlink: an entry is cut off")

// decodeNeigh reads what is needed of a message about an entry, a struct ndmsg and its attributes
// (linux/neighbour.h), which the entry points into. The library's function allocates half a
// kilobyte for each.
func decodeNeigh(m []byte, e *netlink.Neigh) (ok bool) {
	if len(m) < unix.SizeofNdMsg {
		return false
	}
	n := binary.NativeEndian
	*e = netlink.Neigh{Family: int(m[0]), LinkIndex: int(int32(n.Uint32(m[4:]))), State: int(n.Uint16(m[8:])), Flags: int(m[10])}
	for m = m[unix.SizeofNdMsg:]; len(m) >= unix.SizeofRtAttr; {
		size := int(n.Uint16(m))
		if size < unix.SizeofRtAttr || size > len(m) {
			return false
		}
		switch value := m[unix.SizeofRtAttr:size]; n.Uint16(m[2:]) {
		case unix.NDA_DST:
			e.IP = value
		case unix.NDA_LLADDR:
			e.HardwareAddr = value
		case unix.NDA_MASTER:
			if len(value) == 4 {
				e.MasterIndex = int(n.Uint32(value))
			}
		}
		m = m[min(len(m), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return true
}

// retry repeats a dump that a change interrupted.
func retry[T any](dump func() ([]T, error)) (out []T, err error) {
	for range attempts {
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
	stray    []string
}

func (r *reading) add(links, ports []netlink.Link) {
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
	r.networks[vni] = &datapath.Network{Device: datapath.Device{ID: id, VNI: vni, Bridge: b.Name, MTU: b.MTU, PortMTU: portMTU, Multicast: b.MulticastSnooping != nil && *b.MulticastSnooping}}
}

// port reports whether a link is a working port of the right, complete bridge.
func (r *reading) port(l netlink.Link, flags *netlink.Protinfo) bool {
	a := l.Attrs()
	vni, attached := r.bridges[a.MasterIndex]
	if !attached || flags == nil || flags.Learning || a.Flags&net.FlagUp == 0 {
		return false
	}
	n := r.networks[vni]
	if a.MTU != n.MTU || flags.ProxyArpWiFi != n.Multicast {
		return false
	}
	switch l := l.(type) {
	case *netlink.Vxlan:
		if a.Name != datapath.VXLANName(vni) || flags.NeighSuppress == n.Multicast || !isOurs(l, vni) {
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

// entry returns the operation that adds an entry of a network, which is in r.networks. ok is
// false for entries that are none of Weft's.
func (r *reading) entry(e *netlink.Neigh) (op datapath.Op, ok bool) {
	op.Verb = datapath.Add
	if len(e.HardwareAddr) == len(op.MAC) {
		op.MAC = netmap.MAC(e.HardwareAddr)
	}
	if e.Family != unix.AF_BRIDGE {
		vni, ours := r.bridges[e.LinkIndex]
		op.Object, op.Device.VNI, op.Addr = datapath.ANeighbour, vni, addrOf(e.IP)
		return op, ours && e.State == unix.NUD_PERMANENT
	}
	vni, isVXLAN := r.vxlans[e.LinkIndex]
	port, isPort := r.ports[e.LinkIndex]
	switch {
	case isVXLAN && e.Flags&unix.NTF_SELF != 0 && e.IP != nil:
		op.Object, op.Device.VNI, op.Addr = datapath.ATunnel, vni, addrOf(e.IP)
		if op.MAC.IsZero() {
			op.Object = datapath.AFlood
		}
		return op, true
	case isPort && e.MasterIndex != 0 && e.State&unix.NUD_NOARP != 0 && e.State&unix.NUD_PERMANENT == 0:
		op.Object, op.Device.VNI, op.Port.Name = datapath.ABridging, port.vni, port.name
		return op, true
	}
	return op, false
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
