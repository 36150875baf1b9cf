package demo_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/demo"
	"github.com/weftnet/weft/lab/labtest"
)

// TestIntegrationDemo is what make demo does, twice, and make demo-down: the matrix is
// full both times, and nothing is left.
func TestIntegrationDemo(t *testing.T) {
	labtest.Need(t, lab.Config{})
	if testing.Short() {
		t.Skip("brings up three hosts with Docker; not with -short")
	}
	dir := filepath.Join(t.TempDir(), "lab")
	t.Cleanup(func() {
		if err := lab.Down(context.WithoutCancel(t.Context()), lab.Config{Dir: dir}, false); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the state directory is still there: %v", err)
		}
	})
	plugin := labtest.Plugin(t)
	for range 2 {
		var out strings.Builder
		err := demo.Run(t.Context(), demo.Config{
			Lab: lab.Config{Hosts: 3, Dir: dir}, Plugin: plugin, Out: &out, Log: func(line string) { t.Log(line) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if full := strings.Count(out.String(), "ok "); full != 9 || strings.Contains(out.String(), "NO") {
			t.Errorf("%d of 9 places of the matrix are filled:\n%s", full, out.String())
		}
		for _, want := range []string{"web1 ", "web3 on host3", "host2", "Play on:"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in the report:\n%s", want, out.String())
			}
		}
	}
}
