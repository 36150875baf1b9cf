package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

const (
	// watchSilence is how long the kernel must have been silent before the underlay is read: a
	// DHCP client changes several things one after the other.
	watchSilence = 200 * time.Millisecond
	// watchLimit bounds that wait if the kernel is never silent.
	watchLimit = 2 * time.Second
	// watchAgain is the pause before a subscription that ended is opened again.
	watchAgain = time.Second
	// watchBuffer is how many bytes of notifications may wait.
	watchBuffer = 1 << 20
)

// WatchUnderlay calls changed when the kernel reports a change after which FindUnderlay may
// give another answer, until ctx ends. It opens a subscription again that failed, and passes
// the reason to failed.
func WatchUnderlay(ctx context.Context, cfg Config, changed func(), failed func(error)) {
	watch(ctx, cfg, notices.ofUnderlay, notices.awaitSilence, changed, failed)
}

// WatchMoved calls moved when an interface may have been moved out of the host's namespace into
// that of a container, until ctx ends. Like WatchUnderlay it goes on after failures.
func WatchMoved(ctx context.Context, cfg Config, moved func(), failed func(error)) {
	watch(ctx, cfg, notices.ofMoves, func(notices, context.Context) {}, moved, failed)
}

// watch calls changed after each notice and the pause that follows it.
func watch(ctx context.Context, cfg Config, subscribe func(notices, <-chan struct{}) error, pause func(notices, context.Context), changed func(), failed func(error)) {
	for ctx.Err() == nil {
		if err := watchOnce(ctx, cfg, subscribe, pause, changed); err != nil && ctx.Err() == nil {
			failed(err)
		}
		turn.Sleep(ctx, watchAgain)
	}
}

func watchOnce(ctx context.Context, cfg Config, subscribe func(notices, <-chan struct{}) error, pause func(notices, context.Context), changed func()) error {
	ns, err := netns.Open(cfg.withDefaults().HostNS)
	if err != nil {
		return fmt.Errorf("linux: the host's network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }() // read-only
	done := make(chan struct{})
	defer close(done)
	n := notices{relevant: make(chan struct{}, 1), lost: make(chan error, 1)}
	if err := ns.Do(func() error { return subscribe(n, done) }); err != nil {
		return fmt.Errorf("linux: subscribe to changes in the host's network namespace: %w", err)
	}
	for {
		changed() // something may have changed before the subscription
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-n.lost:
			return fmt.Errorf("linux: the kernel sends no more notifications: %w", err)
		case <-n.relevant:
			pause(n, ctx)
		}
	}
}

// notices are the relevant notifications of the kernel.
type notices struct {
	relevant chan struct{}
	lost     chan error
}

// ofMoves subscribes to notices of devices that leave the calling thread's namespace until done
// is closed.
func (n notices) ofMoves(done <-chan struct{}) error {
	links := make(chan netlink.LinkUpdate)
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: n.end, ReceiveBufferSize: watchBuffer, ReceiveBufferForceSize: true}); err != nil {
		return err
	}
	go sift(n, links, func(u netlink.LinkUpdate) bool { return u.Header.Type == unix.RTM_DELLINK })
	return nil
}

// ofUnderlay subscribes to notices of the calling thread's namespace that may concern the
// underlay until done is closed.
func (n notices) ofUnderlay(done <-chan struct{}) error {
	addrs, links, routes := make(chan netlink.AddrUpdate), make(chan netlink.LinkUpdate), make(chan netlink.RouteUpdate)
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: n.end, ReceiveBufferSize: watchBuffer, ReceiveBufferForceSize: true}); err != nil {
		return err
	}
	go sift(n, addrs, func(u netlink.AddrUpdate) bool { return !u.LinkAddress.IP.IsLinkLocalUnicast() })
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: n.end, ReceiveBufferSize: watchBuffer, ReceiveBufferForceSize: true}); err != nil {
		return err
	}
	go sift(n, links, func(u netlink.LinkUpdate) bool { return !ofContainer(u.Attrs().Name) })
	if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: n.end, ReceiveBufferSize: watchBuffer, ReceiveBufferForceSize: true}); err != nil {
		return err
	}
	go sift(n, routes, func(u netlink.RouteUpdate) bool { return leadsFar(u.Dst) })
	return nil
}

// sift passes on that something relevant came, until the subscription ends.
func sift[T any](n notices, updates <-chan T, relevant func(T) bool) {
	for u := range updates {
		if relevant(u) {
			turn.Poke(n.relevant)
		}
	}
	n.end(errors.New("the subscription ended"))
}

// end keeps the first reason.
func (n notices) end(err error) {
	select {
	case n.lost <- err:
	default:
	}
}

// awaitSilence waits until nothing relevant has come for watchSilence.
func (n notices) awaitSilence(ctx context.Context) {
	limit := time.After(watchLimit)
	for {
		select {
		case <-n.relevant:
		case <-time.After(watchSilence):
			return
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// ofContainer reports whether a device belongs to a container network, by its name. Such
// devices come and go with every container.
func ofContainer(device string) bool {
	return strings.HasPrefix(device, "veth") || ofDocker(device) || ofWeft(device)
}

// leadsFar reports whether a route may be the one that FindUnderlay asks for: a default
// route, or one of a few large prefixes in its place.
func leadsFar(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	bits, _ := dst.Mask.Size()
	p := netip.PrefixFrom(addrOf(dst.IP), bits)
	return bits == 0 || slices.ContainsFunc(far, p.Contains)
}
