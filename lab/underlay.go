package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "switch"
	hostPort   = "eth0"
)

// kernelOf opens a netlink socket in the network namespace of a recorded process.
func kernelOf(p Process) (*netlink.Handle, netns.NsHandle, error) {
	fd, err := p.open()
	if err != nil {
		return nil, -1, fmt.Errorf("lab: process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	ns, err := netns.GetFromPid(p.PID)
	if err != nil {
		return nil, -1, fmt.Errorf("lab: network namespace of process %d: %w", p.PID, err)
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		ns.Close()
		return nil, -1, fmt.Errorf("lab: netlink of process %d: %w", p.PID, err)
	}
	return h, ns, nil
}

// wireSwitch makes the bridge and the hosts' gateway addresses, if they are not there.
func wireSwitch(c Config, sw Process) error {
	h, ns, err := kernelOf(sw)
	if err != nil {
		return err
	}
	defer ns.Close()
	defer h.Close()
	if _, err := h.LinkByName(bridgeName); err == nil {
		return nil
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name, bridge.MTU = bridgeName, c.MTU
	if err := h.LinkAdd(bridge); err != nil {
		return fmt.Errorf("lab: make the switch's bridge: %w", err)
	}
	v4, v6 := switchAddrs(c)
	return errors.Join(setUp(h, "lo"), address(h, bridgeName, v4, v6), setUp(h, bridgeName))
}

// plug connects a host to the switch, if it is not connected.
func plug(c Config, sw, holder Process, n int) error {
	host, hostNS, err := kernelOf(holder)
	if err != nil {
		return err
	}
	defer hostNS.Close()
	defer host.Close()
	if _, err := host.LinkByName(hostPort); err == nil {
		return nil
	}
	swH, swNS, err := kernelOf(sw)
	if err != nil {
		return err
	}
	defer swNS.Close()
	defer swH.Close()
	if err := cable(c, swH, int(hostNS), n); err != nil {
		return err
	}
	v4, v6 := hostAddrs(c, n)
	if err := errors.Join(setUp(host, "lo"), address(host, hostPort, v4, v6), setUp(host, hostPort)); err != nil {
		return err
	}
	gw4, gw6 := switchAddrs(c)
	return errors.Join(defaultRoute(host, gw4.Addr()), defaultRoute(host, gw6.Addr()))
}

// cable makes the veth pair: one end a port of the switch's bridge, the other in the host.
func cable(c Config, sw *netlink.Handle, hostNS, n int) error {
	bridge, err := sw.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("lab: the switch's bridge: %w", err)
	}
	if old, err := sw.LinkByName(portName(n)); err == nil {
		// The other end went with a host that was switched off; the kernel is slow to follow.
		_ = sw.LinkDel(old)
	}
	port := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: hostPort, PeerNamespace: netlink.NsFd(hostNS), PeerHardwareAddr: hostMAC(n)}
	port.Name, port.MTU, port.MasterIndex = portName(n), c.MTU, bridge.Attrs().Index
	if err := sw.LinkAdd(port); err != nil {
		return fmt.Errorf("lab: connect %s to the switch: %w", hostName(n), err)
	}
	return setUp(sw, portName(n))
}

// unplug takes a host's cable away. The kernel does so too when the host's namespace ends,
// but only some time after its last process, and until then it would answer pings.
func unplug(book notebook, n int) error {
	r, err := book.read()
	if err != nil {
		return err
	}
	sw, ns, err := kernelOf(r.Switch)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	defer sw.Close()
	port, err := sw.LinkByName(portName(n))
	if err == nil {
		err = sw.LinkDel(port)
	}
	var absent netlink.LinkNotFoundError
	if err != nil && !errors.As(err, &absent) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("lab: unplug %s: %w", hostName(n), err)
	}
	return nil
}

// hostMAC is the address of a host's network card. It stays the same when the host is
// switched off and on, as a real one does, so that its neighbours need not forget it.
func hostMAC(n int) net.HardwareAddr { return net.HardwareAddr{0x02, 0x99, 0, 0, 0, byte(n)} }

func setUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("lab: interface %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("lab: set %s up: %w", name, err)
	}
	return nil
}

// address gives an interface its addresses, IPv6 without duplicate address detection, so
// that they work at once.
func address(h *netlink.Handle, name string, prefixes ...netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("lab: interface %s: %w", name, err)
	}
	for _, p := range prefixes {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("lab: address %s on %s: %w", p, name, err)
		}
	}
	return nil
}

func defaultRoute(h *netlink.Handle, via netip.Addr) error {
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if via.Is6() {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	if err := h.RouteReplace(&netlink.Route{Dst: all, Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("lab: default route via %s: %w", via, err)
	}
	return nil
}

// applyCuts makes the switch drop exactly what these cuts say.
func applyCuts(ctx context.Context, nft string, sw Process, cuts []Arrow) error {
	cmd := exec.CommandContext(ctx, nft, "-f", "-")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(ruleset(cuts)), &out, &out
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := startIn(sw, unix.CLONE_NEWNET, cmd); err != nil {
		return fmt.Errorf("lab: load the switch's rules: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("lab: load the switch's rules: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}
