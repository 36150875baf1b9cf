package kernels

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKernelLossyUnderlay: with delay, loss, duplicates and another order on the wire, a network that is
// made appears on the other host, its containers find each other by name, and nobody takes a host for dead.
func TestKernelLossyUnderlay(t *testing.T) {
	a, b := pair(t, debian12)
	both := []host{a, b}
	each(both, func(h host) error {
		_, err := h.try("tc qdisc add dev eth0 root netem delay 40ms 20ms loss 10% duplicate 5% reorder 25%")
		return err
	})
	began := time.Now()
	a.create("lossy", 42)
	eventually(t, time.Minute, func() error {
		_, err := b.try("docker network inspect lossy")
		return err
	})
	t.Logf("a network appeared after %.1f s", time.Since(began).Seconds())
	a.serve("lossy", "lossy-a", "")
	b.serve("lossy", "lossy-b", "")
	eventually(t, step, func() error { return errors.Join(a.reaches("lossy-a", "lossy-b"), b.reaches("lossy-b", "lossy-a")) })
	for range 15 {
		must(t, errors.Join(a.quiet(2), b.quiet(2)))
		a.sh("sleep 2")
	}
	each(both, func(h host) error {
		_, err := h.try("tc qdisc del dev eth0 root; docker rm -f lossy-" + strings.TrimPrefix(h.Name(), "host-"))
		return err
	})
	a.sh("docker network rm lossy")
}

// TestKernelAnnouncedAddresses: an address that no container has is reached across hosts and moves when
// another one announces it; so is a device with a MAC of its own. Groups have their route.
func TestKernelAnnouncedAddresses(t *testing.T) {
	a, b := pair(t, debian12)
	inside := func(name, script string) string {
		return "nsenter -n -t $(docker inspect -f '{{.State.Pid}}' " + name + ") bash -c '" + script + "'"
	}
	reach := func(from host, name, to string) {
		t.Helper()
		eventually(t, time.Minute, func() error {
			_, err := from.try("docker exec " + name + " ping -c 1 -W 3 " + to)
			return err
		})
	}
	const virtual = "10.40.15.77"
	a.sh(inside("web-a", "ip addr add "+virtual+"/20 dev eth0; arping -q -U -c 2 -I eth0 "+virtual))
	reach(b, "web-b", virtual)
	if out, err := b.try(inside("web-b", "arping -D -c 2 -w 3 -I eth0 "+virtual)); err == nil {
		t.Errorf("a probe for an address in use found nothing: %s", out)
	}
	// The client remembers the first holder, and learns of the second one by its announcement alone.
	a.serve("overlay", "client", "")
	reach(a, "client", virtual)
	a.sh(inside("web-a", "ip addr del "+virtual+"/20 dev eth0"))
	b.sh(inside("web-b", "ip addr add "+virtual+"/20 dev eth0; arping -q -U -c 2 -I eth0 "+virtual))
	began := time.Now()
	reach(a, "client", virtual)
	t.Logf("an address moved between hosts within %.1f s", time.Since(began).Seconds())
	mac := b.sh("docker exec web-b cat /sys/class/net/eth0/address")
	if neighbour := a.sh(inside("client", "ip neigh show "+virtual)); !strings.Contains(neighbour, mac) {
		t.Errorf("the client has %q, the address is at %s", neighbour, mac)
	}
	b.sh(inside("web-b", "ip addr del "+virtual+"/20 dev eth0; ip link add own link eth0 type macvlan mode bridge; ip addr add 10.40.15.78/20 dev own; ip link set own up"))
	reach(a, "client", "10.40.15.78")

	b.sh(inside("web-b", "ip link del own; sysctl -q -w net.ipv4.icmp_echo_ignore_broadcasts=0; ip addr add 239.7.7.7/32 dev eth0 autojoin"))
	eventually(t, time.Minute, func() error {
		out, err := a.try("docker exec client ping -c 1 -W 3 239.7.7.7")
		if b4, _ := b.addrs("web-b", "overlay"); err == nil && !strings.Contains(out, b4) {
			err = errors.New(out)
		}
		return err
	})
	eventually(t, time.Minute, func() error {
		out, err := b.try("nsenter --net=/run/weft/netns/overlay bridge mdb show | grep -c 239.7.7.7")
		if n, _ := strconv.Atoi(out); err == nil && n == 0 {
			err = errors.New("the bridge has not seen who joined the group")
		}
		return err
	})
	b.sh(inside("web-b", "ip addr del 239.7.7.7/32 dev eth0"))
	a.sh("docker rm -f client")
}

// TestKernelDockerRestarts: dockerd restarts and containerd crashes. With live-restore, containers keep
// their traffic.
func TestKernelDockerRestarts(t *testing.T) {
	a, b := pair(t, debian12)
	before := addresses(a, b)
	a.sh("systemctl restart docker")
	back(t, before, a, b)
	a.sh(`echo '{"live-restore": true}' >/etc/docker/daemon.json; systemctl restart docker`)
	back(t, before, a, b)
	b4, _ := b.addrs("web-b", "overlay")
	a.sh("systemd-run -q --unit kept --collect " + "nsenter -n -t $(docker inspect -f '{{.State.Pid}}' web-a) ping -i 1 -w 900 " + b4)
	pid := a.sh("docker inspect -f '{{.State.Pid}}' web-a")
	a.sh("systemctl restart docker")
	a.sh("systemctl kill -s KILL --kill-who=main containerd; sleep 5; systemctl start containerd docker")
	back(t, before, a, b)
	if now := a.sh("docker inspect -f '{{.State.Pid}}' web-a"); now != pid {
		t.Errorf("with live-restore web-a was started again: %s, before %s", now, pid)
	}
	a.sh("systemctl -q is-active kept; systemctl stop kept; rm /etc/docker/daemon.json; systemctl restart docker")
}

// TestKernelNewer: the same on the kernel of Debian 13.
func TestKernelNewer(t *testing.T) {
	for _, h := range pairs[debian12] { // they are not needed any more
		h.Cut()
	}
	a, b := pair(t, debian13)
	isolated(t, "at first", a, b)
	before := addresses(a, b)
	each([]host{a, b}, host.reboot)
	back(t, before, a, b, a, b)
	t.Log(a.sh("uname -r"))
}
