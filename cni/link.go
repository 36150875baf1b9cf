package cni

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netns"
)

// vacant fails where a namespace has an interface of that name.
func vacant(ns *netns.Namespace, name string) error {
	return ns.Do(func() error {
		all, err := net.Interfaces()
		if err == nil && slices.ContainsFunc(all, func(i net.Interface) bool { return i.Name == name }) {
			err = types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("the container has an interface %s already: CNI_IFNAME must name one that it has not", name), "")
		}
		return err
	})
}

// present compares the interface of a container with what it got.
func present(ns *netns.Namespace, name string, e api.Endpoint, addrs []net.IPNet) error {
	return ns.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("interface %s of the container: %w", name, err)
		}
		var wrong []error
		if mac := net.HardwareAddr(e.MAC[:]); link.HardwareAddr.String() != mac.String() {
			wrong = append(wrong, fmt.Errorf("it has the hardware address %s, its endpoint %s", link.HardwareAddr, mac))
		}
		if link.Flags&net.FlagUp == 0 {
			wrong = append(wrong, errors.New("it is down"))
		}
		has, err := link.Addrs()
		if err != nil {
			return err
		}
		for _, want := range addrs {
			if !slices.ContainsFunc(has, func(a net.Addr) bool { return strings.HasPrefix(a.String(), want.IP.String()+"/") }) {
				wrong = append(wrong, fmt.Errorf("the address %s is missing, which it was given", want.IP))
			}
		}
		if err := errors.Join(wrong...); err != nil {
			return fmt.Errorf("interface %s of container: %w", name, err)
		}
		return nil
	})
}
