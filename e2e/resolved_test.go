package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestIntegrationNamesBySystemdResolved: the host's own programs find names of the cluster, and all others,
// through systemd-resolved, with the file of docs/names.md. It needs systemd-resolved without its installation,
// which would change how this machine looks names up: WEFT_RESOLVED names a directory into which dpkg -x has
// unpacked Debian's systemd-resolved, libsystemd-shared and libssl3.
func TestIntegrationNamesBySystemdResolved(t *testing.T) {
	root := os.Getenv("WEFT_RESOLVED")
	if root == "" {
		t.Skip("WEFT_RESOLVED names no directory with systemd-resolved")
	}
	requires(t, "dig", "dnsmasq")
	s := onSpares(t)
	a := s.lend(1)[0]
	must(t, a.InstallPlugin(t.Context(), s.plugin, "WEFT_DNS_LISTEN=127.0.0.55:53"))
	s.docker(a, s.create(a, "resolved")...)
	network := s.name("resolved")
	web := s.run(a, network, "web")
	s.dnsmasq(a, "host", "other", "--listen-address=127.0.0.56", "--bind-interfaces", "--address=/www.example.com/192.0.2.1")
	script, err := filepath.Abs("testdata/resolved.sh")
	must(t, err)
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		out, err := a.Exec(ctx, "unshare", "-m", "sh", script, root, dir)
		ended <- fmt.Errorf("%w: %s", err, out)
	}()
	t.Cleanup(func() {
		stop()
		t.Log("systemd-resolved:", <-ended)
	})
	for range 3 { // it keeps to a server that answered
		for name, want := range map[string]string{fullName(web, network): web.addr.String(), "www.example.com": "192.0.2.1"} {
			eventually(t, healWithin, func(ctx context.Context) error {
				out, err := a.Exec(ctx, "dig", "+short", "+time=1", "+tries=1", "@127.0.0.53", name)
				if err == nil && out != want {
					err = fmt.Errorf("systemd-resolved says %q for %s, want %s", out, name, want)
				}
				return err
			})
		}
	}
}
