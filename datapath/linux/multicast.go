package linux

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// allGroups are the addresses of IPv4 groups. Those of IPv6 have a route on each interface.
var allGroups = &net.IPNet{IP: net.IPv4(224, 0, 0, 0).To4(), Mask: net.CIDRMask(4, 32)}

// InContainer finds the interface of a container that has a MAC and returns its name, empty while it is not there or not
// up. With groups it leads the container's multicasts over it, unless another of its networks came first: each interface
// has the route, with its index as the metric.
func InContainer(ns *netns.Namespace, mac netmap.MAC, groups bool) (name string, err error) {
	again, err := ns.Again()
	if err != nil {
		return "", err
	}
	s, err := openSpace(again)
	if err != nil {
		return "", err
	}
	name, err = s.inContainer(mac, groups)
	return name, errors.Join(err, s.close())
}

func (s *space) inContainer(mac netmap.MAC, groups bool) (name string, err error) {
	links, err := retry(s.LinkList)
	if err != nil {
		return "", fmt.Errorf("linux: list the container's interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		if l.Type() != "veth" || !bytes.Equal(a.HardwareAddr, mac[:]) || a.Flags&net.FlagUp == 0 {
			continue
		}
		if !groups {
			return a.Name, nil
		}
		err := s.RouteReplace(&netlink.Route{LinkIndex: a.Index, Dst: allGroups, Scope: unix.RT_SCOPE_LINK, Priority: a.Index})
		if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENODEV) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("linux: a route to %s over %s: %w", allGroups, a.Name, err)
		}
		return a.Name, nil
	}
	return "", nil
}
