package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/lab"
)

// Names of the paths and of the kinds of network.
const (
	overWeft     = "weft"
	overSwarm    = "swarm"
	overVXLAN    = "vxlan"
	overUnderlay = "underlay"
	fromHost     = "host" // the client's host itself to the container of Weft's
	onBridge     = "bridge"
	onOwnBridge  = "user-bridge"
	onNone       = "none"
)

var (
	paths    = []string{overWeft, overSwarm, overVXLAN, overUnderlay, fromHost}
	networks = []string{overWeft, overSwarm, onOwnBridge, onBridge, onNone}
)

// titles are the names for people.
var titles = map[string]string{
	overWeft: "Weft", overSwarm: "Docker's swarm overlay", overVXLAN: "bare VXLAN device", overUnderlay: "bare underlay", fromHost: "host to container",
	onBridge: "Docker's default bridge", onOwnBridge: "bridge network of a user's", onNone: "no network",
	oneSync: "one fdatasync", request: "RequestAddress", release: "ReleaseAddress",
	requestMany: "RequestAddress, 16 callers", releaseMany: "ReleaseAddress, 16 callers",
	ownName: "name on another host, Weft", dockersName: "name on this host, Docker", throughWeft: "missing name, Weft", throughDocker: "missing name, Docker",
	overAgents: "of it Weft's agents",
	waitsGrant: "RequestAddress that waits for a block", byWeft: "Weft's IPAM", byBuiltIn: "Docker's built-in IPAM",
}

// dockerNetwork is the name of the network in Docker. A bare VXLAN device goes into a
// container that has none.
var dockerNetwork = map[string]string{
	overWeft: "bench-weft", overSwarm: "bench-swarm", overVXLAN: "none", overUnderlay: "host", fromHost: "bench-weft",
	onBridge: "bridge", onOwnBridge: "bench-bridge", onNone: "none",
}

// The bare VXLAN device: a port and an id of its own, addresses that nothing else has.
const (
	bareDevice = "bare0"
	barePort   = "4790"
	bareVNI    = "99"
	// The lab's underlay has 1500 bytes; Weft and Docker leave 50 for the encapsulation.
	bareMTU = "1450"
)

var bareNet = netip.MustParsePrefix("192.0.2.0/24")

// patience bounds every single wait for the lab.
const patience = time.Minute

// setUp makes a pair of containers for every path.
func (b *bench) setUp(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"plugin on both hosts, network of Weft", b.placeWeft},
		{"swarm of both hosts, overlay network", b.placeSwarm},
		{"bridge network to start containers on", b.placeBridge},
		{"a container per path and host", b.placeContainers},
		{"bare VXLAN device between two of them", b.placeVXLAN},
		{"every path answers", b.awaitPaths},
		{"networks to ask for addresses", b.placeAddresses},
		{"containers that ask for names", b.placeNames},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("bench: %s: %w", step.what, err)
		}
		b.say(step.what)
	}
	return nil
}

// each does the same on both hosts of the measurements at once.
func (b *bench) each(do func(*lab.Host) error) error {
	return atOnce([]*lab.Host{b.client(), b.server()}, do)
}

func atOnce(hosts []*lab.Host, do func(*lab.Host) error) error {
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() { errs[i] = do(h) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// placeWeft enables the plugin and waits for the network, made on the first host, to
// appear on the others.
func (b *bench) placeWeft(ctx context.Context) error {
	err := atOnce(b.lab.Hosts(), func(h *lab.Host) error {
		if h.Number() == b.client().Number() {
			return h.InstallPlugin(ctx, b.Plugin)
		}
		return h.InstallPlugin(ctx, b.Plugin, "WEFT_JOIN="+b.client().Addr4().String())
	})
	if err != nil {
		return err
	}
	name := dockerNetwork[overWeft]
	if _, err := b.client().Docker(ctx, "network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName, name); err != nil {
		return err
	}
	return lab.Until(ctx, patience, func() error {
		return atOnce(b.lab.Hosts(), func(h *lab.Host) error {
			_, err := h.Docker(ctx, "network", "inspect", name)
			return err
		})
	})
}

func (b *bench) placeSwarm(ctx context.Context) error {
	if err := b.lab.JoinSwarm(ctx); err != nil {
		return err
	}
	_, err := b.client().Docker(ctx, "network", "create", "-d", "overlay", "--attachable", dockerNetwork[overSwarm])
	return err
}

func (b *bench) placeBridge(ctx context.Context) error {
	_, err := b.client().Docker(ctx, "network", "create", dockerNetwork[onOwnBridge])
	return err
}

func container(path string) string { return "bench-" + path }

// The ports of a path's two servers: one that may run anywhere, and one on the same
// processor as its client, for round trips. Those on the hosts' own network share it,
// so that each path has its own.
func freePort(path int) string   { return fmt.Sprintf(":%d", 7000+path) }
func pinnedPort(path int) string { return fmt.Sprintf(":%d", 7100+path) }

// pinned runs a program on one processor only. Between two, a round trip is mostly the
// time in which the other one wakes up, and that varies more than all networks do.
func pinned(mask string, program ...string) []string {
	return append([]string{"taskset", mask}, program...)
}

// placeContainers starts the probe servers for every path on both hosts. The client's
// are not asked; its container is where the client's probe runs.
func (b *bench) placeContainers(ctx context.Context) error {
	return b.each(func(h *lab.Host) error {
		for i, path := range paths {
			if path == fromHost {
				continue // its client needs no container, and its server is Weft's
			}
			_, err := h.Docker(ctx, "run", "-d", "--name", container(path), "--net", dockerNetwork[path], lab.BusyBoxImage, "probe", "serve", "-addr", freePort(i))
			if err != nil {
				return err
			}
			second := pinned(b.mask, "probe", "serve", "-addr", pinnedPort(i))
			if _, err := h.Docker(ctx, append([]string{"exec", "-d", container(path)}, second...)...); err != nil {
				return err
			}
			if h.Number() != b.server().Number() {
				continue
			}
			addr, err := b.address(ctx, path)
			if err != nil {
				return err
			}
			b.to[path], b.toPinned[path] = addr.String()+freePort(i), addr.String()+pinnedPort(i)
			if path == overWeft {
				b.to[fromHost], b.toPinned[fromHost] = b.to[path], b.toPinned[path]
			}
		}
		return nil
	})
}

// address is where a path ends on the server's host.
func (b *bench) address(ctx context.Context, path string) (netip.Addr, error) {
	switch path {
	case overUnderlay:
		return b.server().Addr4(), nil
	case overVXLAN:
		return bareAddr(b.server()).Addr(), nil
	}
	return b.addressOf(ctx, b.server(), path, container(path))
}

// addressOf is the address of a container on the network of a path.
func (b *bench) addressOf(ctx context.Context, h *lab.Host, path, container string) (netip.Addr, error) {
	format := fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", dockerNetwork[path])
	out, err := h.Docker(ctx, "container", "inspect", "-f", format, container)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(out)
}

// bareAddr is a host's address on the bare VXLAN device.
func bareAddr(h *lab.Host) netip.Prefix {
	a := bareNet.Addr().As4()
	a[3] = byte(h.Number())
	return netip.PrefixFrom(netip.AddrFrom4(a), bareNet.Bits())
}

// placeVXLAN makes the device in the host, so that its underlay stays there, and moves
// it into the container: a plain namespace with one device and no bridge.
func (b *bench) placeVXLAN(ctx context.Context) error {
	return b.each(func(h *lab.Host) error {
		other := b.client()
		if h.Number() == other.Number() {
			other = b.server()
		}
		pid, err := h.Docker(ctx, "container", "inspect", "-f", "{{.State.Pid}}", container(overVXLAN))
		if err != nil {
			return err
		}
		for _, command := range vxlanCommands(h.Addr4(), other.Addr4(), bareAddr(h), pid) {
			if _, err := h.Exec(ctx, strings.Fields(command)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// vxlanCommands make a VXLAN device between two hosts in the namespace of a process,
// with the MTU and the UDP checksum that Weft's and Docker's have.
func vxlanCommands(from, to netip.Addr, addr netip.Prefix, pid string) []string {
	in := "nsenter --net=/proc/" + pid + "/ns/net ip "
	return []string{
		fmt.Sprintf("ip link add %s mtu %s type vxlan id %s local %s remote %s dstport %s udpcsum nolearning", bareDevice, bareMTU, bareVNI, from, to, barePort),
		fmt.Sprintf("ip link set %s netns %s", bareDevice, pid),
		in + fmt.Sprintf("addr add %s dev %s", addr, bareDevice),
		in + fmt.Sprintf("link set %s up", bareDevice),
	}
}

// awaitPaths waits until every path's server answers its client.
func (b *bench) awaitPaths(ctx context.Context) error {
	for _, path := range paths {
		err := lab.Until(ctx, patience, func() error {
			_, err := b.probe(ctx, path, "probe", "roundtrip", "-count", "3", b.to[path])
			if err == nil {
				_, err = b.probe(ctx, path, "probe", "roundtrip", "-count", "3", b.toPinned[path])
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s to %s: %w", titles[path], b.to[path], err)
		}
	}
	return nil
}

// firstMask is the affinity mask, in hexadecimal, of the first processor in a list of
// the kernel's ("0-3,8"); that of processor 0 if it cannot be read.
func firstMask(list string) string {
	first, _, _ := strings.Cut(list, ",")
	first, _, _ = strings.Cut(first, "-")
	n, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || n < 0 {
		n = 0
	}
	return strconv.Itoa(1<<(n%4)) + strings.Repeat("0", n/4)
}

// allowedCPUs is the list of processors that this process may run on.
func allowedCPUs() string {
	text, _ := os.ReadFile("/proc/self/status") // without it, processor 0
	_, after, _ := strings.Cut(string(text), "Cpus_allowed_list:")
	list, _, _ := strings.Cut(after, "\n")
	return list
}

// firstField is the first word of a small file of the kernel's, "unknown" without it.
func firstField(file string) string {
	text, err := os.ReadFile(file)
	if fields := strings.Fields(string(text)); err == nil && len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}
