package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netns"
)

// Inside is the container's end of a port.
type Inside struct {
	NS    *netns.Namespace
	Name  string         // of the interface
	Addrs []netip.Prefix // its addresses in their subnets
}

// Restore makes a port of which nothing is left, and gives its other end to the container as the
// owner had done.
func (k *Kernel) Restore(ctx context.Context, p datapath.Plugged, in Inside) error {
	end, err := enter(ctx, k.turn)
	if err != nil {
		return err
	}
	defer end()
	if err := k.ensure(); err != nil {
		return err
	}
	again, err := in.NS.Again()
	if err != nil {
		return err
	}
	inside, err := openSpace(again)
	if err != nil {
		return err
	}
	defer func() { _ = inside.close() }() // what was written is in the kernel
	if err := k.restore(p, in, inside); err != nil {
		return fmt.Errorf("linux: restore interface %s: %w", in.Name, err)
	}
	k.ports.plug(p)
	return nil
}

func (k *Kernel) restore(p datapath.Plugged, in Inside, inside *space) error {
	if l, err := inside.link(in.Name); err != nil {
		return err
	} else if l != nil {
		return errors.New("the container has another one of that name")
	}
	err := k.plug(p)
	if err == nil {
		err = k.enter(p, in, inside)
	}
	if err != nil { // with one end the other one goes, and another attempt finds nothing
		err = errors.Join(err, k.overlay.remove(datapath.OuterName(p.Port.Endpoint)))
	}
	return err
}

// enter moves the host's end of a port into the container, and makes it what Docker had made of it.
func (k *Kernel) enter(p datapath.Plugged, in Inside, inside *space) error {
	name := datapath.InnerName(p.Port.Endpoint)
	l, err := k.host.LinkByName(name)
	if err != nil {
		return err
	}
	if err := k.host.LinkSetNsFd(l, in.NS.Fd()); err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	if l, err = inside.LinkByName(name); err != nil {
		return err
	}
	if err := inside.LinkSetName(l, in.Name); err != nil {
		return err
	}
	for _, a := range in.Addrs {
		if err := k.give(inside, l, in, a); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	if err := inside.LinkSetUp(l); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	return nil
}

// give adds an address. Docker switches IPv6 off where a sandbox has none.
func (k *Kernel) give(inside *space, l netlink.Link, in Inside, a netip.Prefix) error {
	if a.Addr().Is6() {
		path := filepath.Join(k.cfg.ProcSys, "net/ipv6/conf", in.Name, "disable_ipv6")
		if err := in.NS.Do(func() error { return os.WriteFile(path, []byte("0"), 0o644) }); err != nil {
			return err
		}
	}
	return inside.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}, Flags: unix.IFA_F_NODAD})
}
