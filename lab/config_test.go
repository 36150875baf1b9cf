package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigDefaults(t *testing.T) {
	c, err := Config{Hosts: 3}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := hostAddrs(c, 3)
	gw4, gw6 := switchAddrs(c)
	got := []string{c.Dir, v4.String(), v6.String(), gw4.String(), gw6.String()}
	want := []string{DefaultDir, "10.99.0.3/24", "fd99::3/64", "10.99.0.254/24", "fd99::ffff/64"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c.MTU != 1500 {
		t.Errorf("MTU %d", c.MTU)
	}
}

func TestConfigRefusals(t *testing.T) {
	p := netip.MustParsePrefix
	for want, c := range map[string]Config{
		"0 hosts asked for":            {},
		"201 hosts asked for":          {Hosts: 201},
		"underlay MTU 1000":            {Hosts: 1, MTU: 1000},
		"underlay MTU 70000":           {Hosts: 1, MTU: 70000},
		"IPv4 underlay 10.0.0.0/25":    {Hosts: 1, Underlay4: p("10.0.0.0/25")},
		"IPv4 underlay fd00::/16":      {Hosts: 1, Underlay4: p("fd00::/16")},
		"IPv6 underlay 10.0.0.0/8":     {Hosts: 1, Underlay6: p("10.0.0.0/8")},
		"IPv6 underlay fd00::/120":     {Hosts: 1, Underlay6: p("fd00::/120")},
		"/run/user/0/lab lies in /run": {Hosts: 1, Dir: "/run/user/0/lab"},
		"/var/lib lies in /var/lib":    {Hosts: 1, Dir: "/var/lib"},
	} {
		if _, err := c.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := (Config{Hosts: 1, Dir: "/running/lab"}).withDefaults(); err != nil {
		t.Errorf("a directory that only begins like a hidden one: %v", err)
	}
}

func TestFindTool(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(first, "nft"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second, "nft"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := findTool(first+":"+second, "nft"); err != nil || got != filepath.Join(second, "nft") {
		t.Errorf("found %q, %v; the first is not executable", got, err)
	}
	for name, want := range map[string]string{
		"dockerd": "apt-get install docker.io", "busybox": "apt-get install busybox-static", "nft": "apt-get install nftables",
		"nonsense": "nonsense is not in ",
	} {
		if _, err := findTool(first, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestRequireStatic(t *testing.T) {
	if err := requireStatic("/bin/sh"); err == nil || !strings.Contains(err.Error(), "busybox-static") {
		t.Errorf("a dynamic program: %v", err)
	}
	if err := requireStatic("/etc/passwd"); err == nil {
		t.Error("a text was taken for a program")
	}
}
