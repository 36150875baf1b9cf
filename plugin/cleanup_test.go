package plugin_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/store"
)

// TestCleanupLeavesAStateDirectoryInUse: an agent that is just starting does not answer
// on its socket yet.
func TestCleanupLeavesAStateDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out bytes.Buffer
	begin := time.Now()
	c := plugin.Cleanup{Socket: filepath.Join(t.TempDir(), "agent.sock"), State: dir}
	fails(t, begin, c.Run(t.Context(), &out), dir, "in use", "process id")
	if _, err := os.Stat(filepath.Join(dir, store.FileName)); err != nil || out.Len() > 0 {
		t.Errorf("%v, it said %q", err, &out)
	}
}
