package linux

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/datapath"
)

// vniTaken explains that the kernel has another VXLAN device with this VNI and
// UDP port on the host's namespace; that device may have been moved elsewhere.
func (k *Kernel) vniTaken(d datapath.Device, err error) error {
	who := k.vxlans(func(v *netlink.Vxlan) bool { return v.VxlanId == int(d.VNI) && v.Port == int(d.UDPPort) })
	return fmt.Errorf("VNI %d on UDP port %d is in use by %s: remove that device, or create the network with another -o weft.vni: %w", d.VNI, d.UDPPort, who, err)
}

// portTaken explains that the UDP port cannot be shared: VXLAN devices share one
// if they treat packets alike, others do not.
func (k *Kernel) portTaken(d datapath.Device, err error) error {
	who := k.vxlans(func(v *netlink.Vxlan) bool { return v.Port == int(d.UDPPort) && v.VxlanId != int(d.VNI) })
	return fmt.Errorf("UDP port %d is in use by %s: stop it, or set WEFT_VXLAN_PORT to another port on all hosts: %w", d.UDPPort, who, err)
}

// vxlans names the VXLAN devices that match, in the host's namespace and in those
// that are pinned where ip and Docker pin theirs.
func (k *Kernel) vxlans(match func(*netlink.Vxlan) bool) string {
	found := k.host.vxlans(match, "")
	root := "/"
	if pid, err := k.cfg.HostPID(); err == nil && pid != 0 {
		root = filepath.Join("/proc", strconv.Itoa(pid), "root")
	}
	for _, dir := range []string{"run/netns", "run/docker/netns", filepath.Dir(k.cfg.Pin)} {
		paths, _ := filepath.Glob(filepath.Join(root, dir, "*")) // fails for bad patterns only
		for _, p := range paths {
			found = append(found, elsewhere(p, strings.TrimPrefix(p, strings.TrimSuffix(root, "/")), match)...)
		}
	}
	if len(found) == 0 {
		return "something in a network namespace that has no name, or by a program"
	}
	return strings.Join(found, ", ")
}

func (s *space) vxlans(match func(*netlink.Vxlan) bool, where string) (found []string) {
	links, err := retry(s.LinkList)
	if err != nil {
		return nil // the reason is told without the name
	}
	for _, l := range links {
		if v, ok := l.(*netlink.Vxlan); ok && match(v) {
			found = append(found, "VXLAN device "+v.Name+where)
		}
	}
	return found
}

func elsewhere(path, name string, match func(*netlink.Vxlan) bool) []string {
	s, err := openPath(path)
	if err != nil {
		return nil
	}
	defer func() { _ = s.close() }() // only read from
	return s.vxlans(match, " in network namespace "+name)
}
