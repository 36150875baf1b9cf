package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestIntegrationDockerfileMakesTheSameRootfs: built where no registry is reachable,
// its image holds the plugin's binary and nothing else that runs.
func TestIntegrationDockerfileMakesTheSameRootfs(t *testing.T) {
	s := stage(t)
	t.Parallel()
	h := s.lab.Host(1)
	context := t.TempDir()
	binary, err := os.ReadFile(s.weft)
	must(t, err)
	recipe, err := os.ReadFile("../Dockerfile")
	must(t, err)
	must(t, os.Mkdir(filepath.Join(context, "build"), 0o755))
	must(t, os.WriteFile(filepath.Join(context, "build", "weft"), binary, 0o755))
	must(t, os.WriteFile(filepath.Join(context, "Dockerfile"), recipe, 0o644))
	image := s.name("rootfs")
	s.docker(h, "build", "-t", image, context)
	id := s.docker(h, "create", image)
	out := filepath.Join(context, "out")
	s.docker(h, "cp", id+":/weft", out)
	s.docker(h, "rm", id)
	if built, err := os.ReadFile(out); err != nil || !bytes.Equal(built, binary) {
		t.Errorf("the image's /weft is not the plugin's binary: %d bytes, want %d (%v)", len(built), len(binary), err)
	}
	if got := s.docker(h, "image", "inspect", "-f", "{{.Config.Entrypoint}}", image); got != "[/weft agent]" {
		t.Errorf("the entry point is %s", got)
	}
	s.docker(h, "rmi", image)
}
