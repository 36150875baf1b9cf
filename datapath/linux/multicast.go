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

// groups are the addresses of IPv4 groups. Those of IPv6 have a route on each interface.
var groups = &net.IPNet{IP: net.IPv4(224, 0, 0, 0).To4(), Mask: net.CIDRMask(4, 32)}

// RouteMulticast leads the multicasts of a container over its interface with a MAC, unless
// another of its networks came first: each interface has the route, with its index as the
// metric. It reports false while the interface is not there or not up.
func RouteMulticast(ns *netns.Namespace, mac netmap.MAC) (made bool, err error) {
	again, err := ns.Again()
	if err != nil {
		return false, err
	}
	s, err := openSpace(again)
	if err != nil {
		return false, err
	}
	made, err = s.routeGroups(mac)
	return made, errors.Join(err, s.close())
}

func (s *space) routeGroups(mac netmap.MAC) (made bool, err error) {
	links, err := retry(s.LinkList)
	if err != nil {
		return false, fmt.Errorf("linux: list the container's interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		if l.Type() != "veth" || !bytes.Equal(a.HardwareAddr, mac[:]) || a.Flags&net.FlagUp == 0 {
			continue
		}
		err := s.RouteReplace(&netlink.Route{LinkIndex: a.Index, Dst: groups, Scope: unix.RT_SCOPE_LINK, Priority: a.Index})
		if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENODEV) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("linux: a route to %s over %s: %w", groups, a.Name, err)
		}
		return true, nil
	}
	return false, nil
}
