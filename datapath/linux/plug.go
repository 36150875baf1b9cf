package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// Plug makes the port of an endpoint and returns the name of the end that waits in the host's
// namespace, with MAC and MTU set. It makes the network's devices if they do not exist and
// touches nothing else, so it takes about a millisecond. Then local containers and the remote
// ones that are known here reach the port. It may be repeated: a port whose container has it
// already is left alone.
func (k *Kernel) Plug(ctx context.Context, p datapath.Plugged) (inner string, err error) {
	end, err := enter(ctx, k.turn)
	if err != nil {
		return "", err
	}
	defer end()
	if err := k.plug(p); err != nil {
		return "", fmt.Errorf("linux: plug endpoint %.12s into network %d: %w", p.Port.Endpoint, p.Device.ID, err)
	}
	k.ports.plug(p)
	return datapath.InnerName(p.Port.Endpoint), nil
}

func (k *Kernel) plug(p datapath.Plugged) error {
	if err := k.ensure(); err != nil {
		return err
	}
	if err := k.ready(p.Device); err != nil {
		return err
	}
	fresh, err := k.pair(p)
	if err != nil {
		return err
	}
	err = k.connect(p)
	if err != nil && fresh {
		err = errors.Join(err, k.overlay.remove(datapath.OuterName(p.Port.Endpoint)))
	}
	return err
}

// connect makes the pair's overlay end a port, and adds its entries.
func (k *Kernel) connect(p datapath.Plugged) error {
	outer := datapath.Bridged{Name: datapath.OuterName(p.Port.Endpoint), Endpoint: p.Port.Endpoint}
	if err := k.attach(p.Device, outer); err != nil {
		return err
	}
	mac := p.Port.HardwareAddr()
	if mac.IsZero() {
		return nil
	}
	k.guardPort(datapath.Add, p.Port)
	own := datapath.Op{Verb: datapath.Add, Object: datapath.ABridging, Device: p.Device, Port: outer, MAC: mac}
	return k.now(append([]datapath.Op{own}, neighbours(datapath.Add, p)...))
}

func neighbours(verb datapath.Verb, p datapath.Plugged) (ops []datapath.Op) {
	for _, a := range []netip.Addr{p.Port.V4, p.Port.V6} {
		if a.IsValid() {
			ops = append(ops, datapath.Op{Verb: verb, Object: datapath.ANeighbour, Device: p.Device, MAC: p.Port.HardwareAddr(), Addr: a})
		}
	}
	return ops
}

// ready makes the network's devices unless they look right. Set checks them completely.
func (k *Kernel) ready(d datapath.Device) error {
	b, err := k.overlay.link(d.Bridge)
	if err != nil {
		return err
	}
	v, err := k.overlay.link(d.VXLAN)
	if err != nil {
		return err
	}
	if b != nil && v != nil && b.Attrs().Flags&v.Attrs().Flags&net.FlagUp != 0 && v.Attrs().MasterIndex == b.Attrs().Index {
		return nil
	}
	if err := k.addBridge(d); err != nil {
		return fmt.Errorf("bridge %s: %w", d.Bridge, err)
	}
	if err := k.addVXLAN(d); err != nil {
		return fmt.Errorf("VXLAN device %s: %w", d.VXLAN, err)
	}
	return nil
}

// pair makes the endpoint's veth pair, each end in its namespace, with one request. It uses a
// complete pair of an earlier attempt; otherwise the pair is fresh.
func (k *Kernel) pair(p datapath.Plugged) (fresh bool, err error) {
	innerName, outerName := datapath.InnerName(p.Port.Endpoint), datapath.OuterName(p.Port.Endpoint)
	inner, err := k.host.link(innerName)
	if err != nil {
		return false, err
	}
	outer, err := k.overlay.link(outerName)
	if err != nil {
		return false, err
	}
	if inner != nil && inner.Type() != "veth" {
		return false, fmt.Errorf("the host has a %s device %s that is not Weft's: rename or delete it", inner.Type(), innerName)
	}
	switch {
	case outer != nil && inner == nil: // Docker has moved it
		return false, nil
	case outer != nil:
		return false, k.host.dress(inner, p)
	case inner != nil: // its other end is in none of Weft's namespaces
		if err := k.host.remove(innerName); err != nil {
			return false, err
		}
	}
	v := netlink.NewVeth(attrs(innerName, p.Device.PortMTU))
	v.HardwareAddr = mac(p.Port)
	v.PeerName, v.PeerMTU, v.PeerNamespace = outerName, uint32(p.Device.MTU), netlink.NsFd(k.overlay.ns.Fd())
	if err := k.host.LinkAdd(v); err != nil {
		return false, fmt.Errorf("veth pair %s and %s: %w", innerName, outerName, err)
	}
	return true, nil
}

// mac returns the MAC of the port, or nil if the kernel may choose one.
func mac(p datapath.Port) net.HardwareAddr {
	if m := p.HardwareAddr(); !m.IsZero() {
		return m.HardwareAddr()
	}
	return nil
}

// dress sets the MTU and the MAC of the end that Docker gets.
func (s *space) dress(inner netlink.Link, p datapath.Plugged) error {
	if err := s.LinkSetMTU(inner, p.Device.PortMTU); err != nil {
		return fmt.Errorf("mtu %d of %s: %w", p.Device.PortMTU, inner.Attrs().Name, err)
	}
	if m := mac(p.Port); m != nil {
		if err := s.LinkSetHardwareAddr(inner, m); err != nil {
			return fmt.Errorf("MAC %s of %s: %w", m, inner.Attrs().Name, err)
		}
	}
	return nil
}

// now carries out a few operations on entries at once.
func (k *Kernel) now(ops []datapath.Op) error {
	links, err := k.overlay.indexes(ops)
	if err != nil {
		return err
	}
	var batch []entry
	for _, op := range ops {
		if e, ok := newEntry(op, links); ok {
			batch = append(batch, e)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	answers, err := k.overlay.send(batch)
	k.guardEntries(ops)
	return errors.Join(append(answers, err)...)
}

// Forget forgets what was plugged and unplugged, which overrides the states that Set gets. It
// is called when another agent takes over, which restores that from its disk.
func (k *Kernel) Forget(ctx context.Context) error {
	end, err := enter(ctx, k.turn)
	if err != nil {
		return err
	}
	defer end()
	k.ports = newPorts()
	return nil
}

// Unplug removes an endpoint's port, wherever its other end is. It is no error if there is
// none.
func (k *Kernel) Unplug(ctx context.Context, id netmap.EndpointID) error {
	end, err := enter(ctx, k.turn)
	if err != nil {
		return err
	}
	defer end()
	was, known := k.ports.unplug(id)
	if err := k.unplug(id, was, known); err != nil {
		return fmt.Errorf("linux: unplug endpoint %.12s: %w", id, err)
	}
	return nil
}

func (k *Kernel) unplug(id netmap.EndpointID, was datapath.Plugged, known bool) error {
	if k.overlay == nil {
		if err := k.find(); err != nil && !errors.Is(err, netns.ErrNotExist) {
			return err
		}
	}
	if k.overlay != nil {
		if known {
			k.guardPort(datapath.Delete, was.Port)
			if err := k.now(neighbours(datapath.Delete, was)); err != nil {
				return err
			}
		}
		if err := k.overlay.remove(datapath.OuterName(id)); err != nil {
			return err
		}
	}
	// It is deleted with the other end, unless there is none.
	l, err := k.host.link(datapath.InnerName(id))
	if err != nil || l == nil || l.Type() != "veth" {
		return err
	}
	if err := k.host.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}
