package demo

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/netmap"
)

func TestPingTime(t *testing.T) {
	const out = `PING 10.32.0.2 (10.32.0.2): 56 data bytes

--- 10.32.0.2 ping statistics ---
5 packets transmitted, 5 packets received, 0% packet loss
round-trip min/avg/max = 0.064/0.069/0.075 ms`
	if got, err := pingTime(out); err != nil || got != 69*time.Microsecond {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "5 packets transmitted, 0 packets received, 100% packet loss", "min/avg/max = a/b/c ms"} {
		if _, err := pingTime(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestReportNamesWhatFailed(t *testing.T) {
	a, b := netip.MustParseAddr("10.32.0.2"), netip.MustParseAddr("10.32.0.64")
	ok := cell{rtt: 210 * time.Microsecond}
	m := matrix{addrs: []netip.Addr{a, b}, cells: [][]cell{{ok, {err: errors.New("host1: wget: timed out")}}, {ok, ok}}}
	var out strings.Builder
	if err := write(&out, &api.Report{Name: "host1", Self: netmap.HostID{1}}, m, lab.DefaultDir); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"web1 10.32.0.2", "web2 on host2   ok 0.210 ms", "NO: host1: wget: timed out", "make demo-shell HOST=2", "build/lab cut 2", "make demo-down",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestReportOfAnotherLab: no command of it touches the default one.
func TestReportOfAnotherLab(t *testing.T) {
	m := matrix{addrs: []netip.Addr{netip.MustParseAddr("10.32.0.2")}, cells: [][]cell{{{}}}}
	var out strings.Builder
	if err := write(&out, &api.Report{}, m, "/tmp/second"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"shell 2", "cut 2", "heal 2", "kill-agent 1", "down"} {
		if !strings.Contains(out.String(), "build/lab --state /tmp/second "+want) {
			t.Errorf("no %q for that lab in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "make demo") {
		t.Errorf("a target of the default lab in\n%s", out.String())
	}
}
