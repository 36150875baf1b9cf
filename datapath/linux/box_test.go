package linux

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/datapath"
)

// take moves the end into the container, as Docker does.
func (b *box) take(name string) {
	b.Helper()
	l, err := b.host.ns.LinkByName(name)
	check(b, err)
	check(b, b.host.ns.LinkSetNsFd(l, b.ns.ns.Fd()))
	l, err = b.ns.LinkByName(name)
	check(b, err)
	check(b, b.ns.LinkSetName(l, "eth0"))
	b.ns.address(b, "eth0", b.port.V4.String()+"/20")
	b.ns.address(b, "eth0", b.port.V6.String()+"/64")
	b.carries()
}

// carries waits until both ends have noticed that the other is up, which the
// kernel tells them from a work queue.
func (b *box) carries() {
	b.Helper()
	inner := func() (netlink.Link, error) { return b.ns.LinkByName("eth0") }
	outer := func() (netlink.Link, error) {
		return b.host.k.overlay.LinkByName(datapath.OuterName(b.port.Endpoint))
	}
	for _, end := range []func() (netlink.Link, error){inner, outer} {
		for deadline := time.Now().Add(10 * time.Second); ; {
			l, err := end()
			check(b, err)
			if l.Attrs().OperState == netlink.OperUp {
				break
			}
			if time.Now().After(deadline) {
				b.Fatalf("%s of %s is %s", l.Attrs().Name, b.port.V4, l.Attrs().OperState)
			}
		}
	}
	b.listens()
}

// listens waits until the box hears solicitations of its IPv6 address: the kernel
// joins their group from a work queue too (addrconf_dad_begin).
func (b *box) listens() {
	b.Helper()
	v6 := b.port.V6.As16()
	group := fmt.Sprintf("ff0200000000000000000001ff%x", v6[13:])
	for deadline := time.Now().Add(10 * time.Second); ; {
		var joined []byte
		check(b, b.ns.ns.Do(func() (err error) {
			joined, err = os.ReadFile("/proc/thread-self/net/igmp6")
			return err
		}))
		if bytes.Contains(joined, []byte(group)) {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s has not joined %s:\n%s", b.port.V6, group, joined)
		}
	}
}
