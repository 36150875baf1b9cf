package linux

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/datapath"
)

// Cleanup removes everything that this package ever leaves in a kernel, whichever
// process left it: devices, veth pairs with the ends in containers, the pinned
// namespace. It says what it removed, also when it could not remove all. Running
// containers lose their networks.
func (k *Kernel) Cleanup(ctx context.Context) (removed []string, err error) {
	if err := k.setting.enter(ctx); err != nil {
		return nil, err
	}
	defer k.setting.leave()
	if err := k.turn.enter(ctx); err != nil {
		return nil, err
	}
	defer k.turn.leave()
	var errs []error
	if k.overlay == nil {
		if err := k.find(); err != nil && !errors.Is(err, errNoPin) {
			errs = append(errs, err)
		}
	}
	if k.overlay != nil {
		gone, err := k.overlay.purge(func(l netlink.Link) bool { return strings.HasPrefix(l.Attrs().Name, "wf") })
		removed = append(removed, gone...)
		errs = append(errs, err, k.overlay.close())
		k.overlay = nil
	}
	gone, err := k.host.purge(func(l netlink.Link) bool {
		return l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, datapath.InnerPrefix)
	})
	removed, errs = append(removed, gone...), append(errs, err)
	was, err := k.unpin()
	if was {
		removed = append(removed, "network namespace "+k.cfg.Pin)
	}
	k.ports = newPorts()
	return removed, errors.Join(append(errs, err)...)
}

// purge deletes devices; the other end of a veth pair goes along.
func (s *space) purge(ours func(netlink.Link) bool) (removed []string, err error) {
	links, err := retry(s.LinkList)
	if err != nil {
		return nil, fmt.Errorf("linux: list devices: %w", err)
	}
	var errs []error
	for _, l := range links {
		if !ours(l) {
			continue
		}
		name := l.Attrs().Name
		if err := s.remove(name); err != nil {
			errs = append(errs, fmt.Errorf("linux: %w", err))
			continue
		}
		removed = append(removed, l.Type()+" "+name)
	}
	slices.Sort(removed)
	return removed, errors.Join(errs...)
}
