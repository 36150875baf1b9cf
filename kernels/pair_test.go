package kernels

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/weftnet/weft/lab/vm"
)

// extra is what the machines of make test-kernels have besides those of the smoke test.
var extra = []string{"firewalld", "ufw", "network-manager", "nftables", "iputils-arping"}

// pairs are the machines that the tests of one kernel have together, with their containers: on
// host-a web-a of the network overlay, which publishes port 18080, and apart of the network other;
// on host-b web-b of overlay.
var pairs = map[string][]host{}

// pair is nil if the test has no machines.
func pair(t *testing.T, kernel string) (a, b host) {
	t.Helper()
	if os.Getenv("WEFT_KERNELS") == "" {
		t.Skip("some minutes on emulated machines: make test-kernels runs it (WEFT_KERNELS)")
	}
	must(t, vm.Missing())
	hosts, ok := pairs[kernel]
	if !ok {
		hosts = start(t, disk(t, "full", debian12+" "+debian13, extra...), kernel, 2)
		pairs[kernel] = hosts
		each(hosts, func(h host) error {
			settings := ""
			if h.Name() != "host-a" {
				settings = "docker plugin set weftnet/weft:latest WEFT_JOIN=192.0.2.1"
			}
			return h.install(settings)
		})
		hosts[0].create("overlay", 40)
		hosts[0].create("other", 41)
		hosts[0].serve("overlay", "web-a", "-p 18080:80")
		hosts[0].serve("other", "apart", "")
		eventually(t, step, func() error {
			_, err := hosts[1].try("docker network inspect overlay")
			return err
		})
		hosts[1].serve("overlay", "web-b", "--ip 10.40.3.7")
	}
	a, b = host{hosts[0].Machine, t}, host{hosts[1].Machine, t}
	eventually(t, step, func() error { return whole(a, b) })
	return a, b
}

// whole is nil if containers and hosts reach each other by name and address, and nobody complains.
func whole(a, b host) error {
	if err := errors.Join(a.quiet(2), b.quiet(2)); err != nil {
		return err
	}
	a4, a6 := a.addrs("web-a", "overlay")
	b4, b6 := b.addrs("web-b", "overlay")
	return errors.Join(a.pings(a4, a6, b4, b6), b.pings(a4, a6, b4, b6),
		a.reaches("web-a", "web-b", "web-b.overlay", "["+b6+"]"), b.reaches("web-b", "web-a", "web-a.overlay", "["+a6+"]"))
}

// own is the host's own IPv4 address on a network.
func (h host) own(network string) string {
	return h.sh(`for i in $(ip -br link | grep -o '^wfc[0-9a-f]*'); do ip -4 -br addr show $i; done | grep -o '10\.` + map[string]string{"overlay": "40", "other": "41"}[network] + `[0-9.]*'`)
}

// TestKernelTwoHosts: two hosts on one wire, each with Debian 12's kernel, systemd and Docker. What
// is made on one appears on the other, and containers and hosts reach each other.
func TestKernelTwoHosts(t *testing.T) {
	a, b := pair(t, debian12)
	own := a.own("overlay")
	if _, err := b.try("docker exec web-b ping -c 1 -W 5 " + own); err != nil {
		t.Errorf("a container does not reach another host at %s: %v", own, err)
	}
	for what, at := range map[string]string{"the underlay's": "192.0.2.1", "the network's": own} {
		if _, err := b.try("timeout 20 bash -c 'exec 3<>/dev/tcp/" + at + "/18080; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; grep web-a <&3'"); err != nil {
			t.Errorf("a published port is not reached by %s address %s: %v", what, at, err)
		}
	}
	isolated(t, "at first", a, b)
	t.Log(a.sh("uname -r; docker version -f '{{.Server.Version}}'"))
}

// isolated checks that nothing gets from one network to another, nor into one from outside.
func isolated(t *testing.T, when string, a, b host) {
	t.Helper()
	apart, apart6 := a.addrs("apart", "other")
	for _, to := range []string{apart, apart6} {
		if out, err := a.try("docker exec web-a ping -c 1 -W 2 " + to); err == nil {
			t.Errorf("%s: a container reaches %s, on another network\n%s", when, to, out)
		}
	}
	_, err := b.try("ip route replace 10.41.0.0/20 via 192.0.2.1; r=0; ping -c 1 -W 2 " + apart + " && r=1; ip route del 10.41.0.0/20 via 192.0.2.1; exit $r")
	if err != nil {
		t.Errorf("%s: a machine that routes by a host reaches %s: %v", when, apart, err)
	}
}

// back waits until everything is as it was after the machines have started again, and checks how
// their Docker has started.
func back(t *testing.T, before string, a, b host, started ...host) {
	t.Helper()
	for _, h := range started {
		_, err := h.try("systemctl start docker")
		must(t, err)
		if waits := h.sh("journalctl -b -u docker --no-pager | grep -c 'Unable to connect to plugin'; true"); waits != "0" {
			t.Errorf("dockerd on %s waited %s times for the plugin", h.Name(), waits)
		}
		var from, to int
		took := h.sh(`systemctl show docker -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic | sort -r | cut -d= -f2 | tr '\n' ' '`)
		if _, err := fmt.Sscan(took, &from, &to); err != nil {
			t.Errorf("systemctl show docker: %q: %v", took, err)
		}
		t.Logf("%s: docker took %d ms to start", h.Name(), (to-from)/1000)
	}
	eventually(t, step, func() error { return errors.Join(a.running("web-a"), a.running("apart"), b.running("web-b")) })
	if now := addresses(a, b); now != before {
		t.Errorf("the containers are at %s, they were at %s", now, before)
	}
	eventually(t, step, func() error { return whole(a, b) })
}

func addresses(a, b host) string {
	a4, a6 := a.addrs("web-a", "overlay")
	b4, b6 := b.addrs("web-b", "overlay")
	c4, c6 := a.addrs("apart", "other")
	return fmt.Sprint(a4, a6, b4, b6, c4, c6)
}

// TestKernelRebootsAndPowerCuts: after reboots and losses of power, of one host and of both, all
// containers are back with their addresses and names, with nothing to mend, and dockerd has not waited
// for the plugin.
func TestKernelRebootsAndPowerCuts(t *testing.T) {
	a, b := pair(t, debian12)
	restarts(t, a, b)
}

func restarts(t *testing.T, a, b host) {
	t.Helper()
	before := addresses(a, b)
	both := []host{a, b}
	each(both, host.reboot)
	back(t, before, a, b, both...)

	b.Cut()
	a4, a6 := a.addrs("web-a", "overlay")
	if err := a.pings(a4, a6); err != nil {
		t.Errorf("without host-b: %v", err)
	}
	must(t, b.start())
	back(t, before, a, b, b)

	a.Cut()
	b.Cut()
	each(both, host.start)
	back(t, before, a, b, both...)
}
