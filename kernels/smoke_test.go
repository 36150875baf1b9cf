package kernels

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/weftnet/weft/lab/vm"
)

// TestIntegrationAMachineBoots: on Debian 12's own kernel the plugin is installed, a container gets
// its address and name, and after a reboot it is back with both, with nothing to mend.
func TestIntegrationAMachineBoots(t *testing.T) {
	if os.Getenv("WEFT_KERNELS") == "" {
		t.Skip("emulates a machine for some minutes: make test-kernels runs it (WEFT_KERNELS)")
	}
	must(t, vm.Missing())
	began := time.Now()
	h := start(t, disk(t, "smoke", debian12), debian12, 1)[0]
	said := func(what string) { t.Logf("%s after %.0f s", what, time.Since(began).Seconds()) }
	said("commands")
	must(t, h.install(""))
	said("plugin")
	h.create("overlay", 40)
	h.serve("overlay", "web", "")
	v4, v6 := h.addrs("web", "overlay")
	check := func() error { return errors.Join(h.reaches("web", "web", "web.overlay"), h.pings(v4, v6), h.quiet(1)) }
	eventually(t, step, check)
	said("container at " + v4 + " and " + v6)

	must(t, h.reboot())
	said("reboot")
	h.sh("systemctl start docker")
	said("docker")
	eventually(t, step, func() error { return h.running("web") })
	if a4, a6 := h.addrs("web", "overlay"); a4 != v4 || a6 != v6 {
		t.Errorf("after the reboot the container is at %s and %s, before at %s and %s", a4, a6, v4, v6)
	}
	eventually(t, step, check)
	said("all back on Linux " + h.sh("uname -r"))
}

// running is nil if a container runs.
func (h host) running(name string) error {
	out, err := h.try("docker inspect -f '{{.State.Running}}' " + name)
	if err == nil && out != "true" {
		err = errors.New(name + " does not run")
	}
	return err
}
