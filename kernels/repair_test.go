package kernels

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// stream pings from one container to another until it is stopped, and says what was lost.
func (h host) stream(name, to string) (lost func() int) {
	h.sh("systemd-run -q --unit stream --collect -p StandardOutput=truncate:/run/stream docker exec " + name + " ping -i 1 -w 900 " + to)
	return func() int {
		h.t.Helper()
		h.sh("pkill -INT -f '^ping -i 1 '; while systemctl -q is-active stream; do sleep 0.2; done")
		var sent, received int
		if _, err := fmt.Sscanf(h.sh("grep transmitted /run/stream"), "%d packets transmitted, %d packets received", &sent, &received); err != nil {
			h.t.Errorf("ping said %q", h.sh("tail -3 /run/stream"))
		}
		h.t.Logf("%d of %d pings were answered", received, sent)
		return sent - received
	}
}

// changed is what the agent has repaired until now.
func (h host) changed() uint64 {
	h.t.Helper()
	return must1(h.report())(h.t).Datapath.Repaired
}

// rules are the host's own routing rules, routes and addresses on networks.
func (h host) rules() string {
	h.t.Helper()
	return h.sh(`ip rule | grep -E '^79[5-8]:'; ip -6 rule | grep -E '^79[5-8]:'; ip route show table 7950; ip -6 route show table 7950
for i in $(ip -br link | grep -o '^wfc[0-9a-f]*'); do ip -br addr show $i | tr ' ' '\n' | grep -E '/(32|128)$'; done`)
}

// repaired waits until the host's own rules, routes and addresses are what they were.
func (h host) repaired(want string) {
	h.t.Helper()
	began := time.Now()
	eventually(h.t, step, func() error {
		if have := h.rules(); have != want {
			return errors.New("have\n" + have + "\nwant\n" + want)
		}
		return nil
	})
	if took := time.Since(began); took > repairWithin {
		h.t.Errorf("%s: repaired after %v", h.Name(), took)
	}
}

// remedied restarts Docker if that is what the agent says to do, once it has had the time to say so.
func (h host) remedied() error {
	if _, err := h.try("sleep 12"); err != nil {
		return err
	}
	r, err := h.report()
	if err != nil || !strings.Contains(strings.Join(r.Problems, " "), "systemctl restart docker") {
		return err
	}
	h.t.Logf("%s: %q", h.Name(), r.Problems)
	_, err = h.try("systemctl restart docker")
	return err
}

// TestKernelFirewalls: firewalld and ufw come, reload and go; somebody flushes everything. Networks stay
// apart all the while, what is Weft's is back within 10 s and counted, what is Docker's is told.
func TestKernelFirewalls(t *testing.T) {
	a, b := pair(t, debian12)
	want := a.rules()
	b4, _ := b.addrs("web-b", "overlay")
	both := []host{a, b}
	for _, wall := range []struct{ name, on, reload, off string }{
		{
			"firewalld", "systemctl start firewalld && for p in 7950/tcp 7950/udp 4789/udp; do firewall-cmd -q --permanent --add-port $p; done && firewall-cmd -q --reload",
			"firewall-cmd --reload", "systemctl stop firewalld",
		},
		{"ufw", "ufw allow 7950 && ufw allow 4789/udp && ufw allow 18080/tcp && ufw --force enable", "ufw reload", "ufw disable"},
	} {
		lost := a.stream("web-a", b4)
		each(both, func(h host) error { _, err := h.try(wall.on); return err })
		isolated(t, "with "+wall.name, a, b)
		a.repaired(want)
		each(both, func(h host) error { _, err := h.try(wall.reload); return err })
		isolated(t, "after a reload of "+wall.name, a, b)
		a.repaired(want)
		if n := lost(); n > 0 {
			t.Errorf("%s: traffic between containers was disturbed", wall.name)
		}
		each(both, host.remedied)
		eventually(t, step, func() error { return whole(a, b) })
		each(both, func(h host) error { _, err := h.try(wall.off); return err })
		each(both, host.remedied)
	}
	eventually(t, step, func() error { return whole(a, b) })

	before := a.changed()
	a.sh("nft flush ruleset; iptables -F; iptables -t nat -F; iptables -P FORWARD ACCEPT; ip rule del pref 795; ip -6 rule del pref 795")
	isolated(t, "after a flush", a, b)
	a.repaired(want)
	if a.changed() == before {
		t.Error("no repair was counted")
	}
	eventually(t, step, func() error {
		r, err := a.report()
		if err == nil && !strings.Contains(strings.Join(r.Problems, " "), "systemctl restart docker") {
			err = fmt.Errorf("problems %q", r.Problems)
		}
		return err
	})
	a.sh("systemctl restart docker")
	eventually(t, step, func() error { return whole(a, b) })
}

// TestKernelNetworkManagers: systemd-networkd and NetworkManager are told to manage every interface. The
// hosts' own addresses, routes and rules are as they were, and traffic between containers goes on.
func TestKernelNetworkManagers(t *testing.T) {
	a, b := pair(t, debian12)
	want := a.rules()
	b4, _ := b.addrs("web-b", "overlay")
	lost := a.stream("web-a", b4)
	a.sh(`printf '[Match]\nName=*\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n' >/etc/systemd/network/99-all.network; systemctl restart systemd-networkd; sleep 5`)
	a.repaired(want)
	t.Log(a.sh("networkctl --no-pager; ip -br addr; ip rule"))
	a.sh("networkctl reload; networkctl reconfigure $(ip -br link | grep -o '^wfc[0-9a-f]*'); sleep 5")
	a.repaired(want)
	if lost() > 0 {
		t.Error("networkd disturbed traffic between containers")
	}
	a.sh("rm /etc/systemd/network/99-all.network; systemctl stop systemd-networkd.socket systemd-networkd; ip addr replace 192.0.2.1/24 dev eth0")
	eventually(t, step, func() error { return whole(a, b) })

	lost = a.stream("web-a", b4)
	a.sh(`printf '[main]\nplugins=keyfile\n[keyfile]\nunmanaged-devices=interface-name:eth0\n' >/etc/NetworkManager/conf.d/all.conf
mkdir -p /etc/udev/rules.d; echo 'ENV{INTERFACE}=="?*", ENV{NM_UNMANAGED}="0"' >/etc/udev/rules.d/99-managed.rules; udevadm control --reload; udevadm trigger --settle -s net
systemctl start NetworkManager
for i in $(ip -br link | grep -o '^wfc[0-9a-f]*'); do nmcli device set $i managed yes; nmcli -w 20 device connect $i || true; done`)
	a.repaired(want)
	t.Log(a.sh("nmcli device; ip -br addr"))
	if lost() > 0 {
		t.Error("NetworkManager disturbed traffic between containers")
	}
	a.sh("systemctl stop NetworkManager; rm /etc/udev/rules.d/99-managed.rules; udevadm control --reload; systemctl start systemd-networkd")
	eventually(t, step, func() error { return whole(a, b) })
}
