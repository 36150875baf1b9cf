package linux

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netns"
)

// Cleanup removes everything that this package can leave in a kernel, whichever process made
// it: devices, veth pairs with their ends in containers, the pinned namespace. It returns what
// it removed, also with an error. Running containers lose their networks.
func (k *Kernel) Cleanup(ctx context.Context) (removed []string, err error) {
	release, err := enter(ctx, k.setting)
	if err != nil {
		return nil, err
	}
	defer release()
	end, err := enter(ctx, k.turn)
	if err != nil {
		return nil, err
	}
	defer end()
	var errs []error
	if k.overlay == nil {
		if err := k.find(); err != nil && !errors.Is(err, netns.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if k.overlay != nil {
		gone, err := k.overlay.purge(func(l netlink.Link) bool { return strings.HasPrefix(l.Attrs().Name, "wf") })
		removed = append(removed, gone...)
		errs = append(errs, err, k.release())
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

// purgeGroup marks the devices of one purge; "weft" in ASCII.
const purgeGroup = 0x77656674

// purge deletes devices. The other end of a veth pair is deleted with it. One request deletes
// all, since the kernel waits for all processors at each deletion.
func (s *space) purge(match func(netlink.Link) bool) (removed []string, err error) {
	links, err := retry(s.LinkList)
	if err != nil {
		return nil, fmt.Errorf("linux: list devices: %w", err)
	}
	for _, l := range links {
		if !match(l) {
			continue
		}
		err := s.LinkSetGroup(l, purgeGroup)
		if errors.Is(err, unix.ENODEV) { // went with its container meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("linux: mark %s for deletion: %w", l.Attrs().Name, err)
		}
		removed = append(removed, l.Type()+" "+l.Attrs().Name)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: s.batch}
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(purgeGroup)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return nil, fmt.Errorf("linux: delete %s: %w", strings.Join(removed, ", "), err)
	}
	slices.Sort(removed)
	return removed, nil
}
