package engines

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/labtest"
)

// core is what differs most between engines: the plugin's life, networks and names beside Docker's own, hosts
// beside Docker's firewall, restarts. make test-engines runs all.
const core = "^(TestIntegrationContainersReachEachOther|TestIntegrationNames|TestIntegrationHostsOnNetworks|TestIntegrationDockerRestarts)$"

// TestIntegrationOnLaterEngines runs the core of the end-to-end tests on the engines of later Debian releases.
func TestIntegrationOnLaterEngines(t *testing.T) {
	if testing.Short() || os.Getenv("WEFT_LONG") == "" {
		t.Skip("fetches two engines and brings up hosts with each: make test-long runs it (WEFT_LONG)")
	}
	labtest.Need(t, lab.Config{})
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range []string{"trixie", "sid"} {
		t.Run(release, func(t *testing.T) {
			dir := filepath.Join(root, "build", "engine", release)
			fetch := exec.CommandContext(t.Context(), "scripts/engine.sh", release, dir)
			fetch.Dir = root
			if out, err := fetch.CombinedOutput(); err != nil {
				t.Skipf("the engine of %s cannot be fetched here: %v: %s", release, err, out)
			}
			run := exec.CommandContext(t.Context(), "go", "test", "./e2e", "-v", "-count=1", "-timeout", "10m", "-run", core)
			run.Dir = root
			run.Env = append(os.Environ(), "WEFT_ENGINE="+dir, "WEFT_SPARES=3")
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
