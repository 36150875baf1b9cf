package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationPluginByDockersOwnCommands: the commands of README.md from docker build to docker
// plugin create work in the repository without a registry, and the plugin that they make can be
// enabled.
func TestIntegrationPluginByDockersOwnCommands(t *testing.T) {
	s := onSpares(t)
	h, _ := s.borrow()
	top := s.top()
	s.commands(h, top, "docker build -t weft-rootfs .")
	binary, err := os.ReadFile(s.weft)
	must(t, err)
	if built, err := os.ReadFile(filepath.Join(top, "build", "plugin", "rootfs", "weft")); err != nil || !bytes.Equal(built, binary) {
		t.Errorf("the root file system's /weft is not the plugin's binary: %d bytes, want %d (%v)", len(built), len(binary), err)
	}
	if got := s.docker(h, "image", "inspect", "-f", "{{.Config.Entrypoint}}", "weft-rootfs"); got != "[/weft agent]" {
		t.Errorf("the entry point is %s", got)
	}
	s.docker(h, "plugin", "enable", lab.PluginName)
	s.docker(h, "rmi", "weft-rootfs")
}

// top is a copy of the repository's top after make build.
func (s *scene) top() string {
	s.t.Helper()
	dir := s.t.TempDir()
	must(s.t, os.Mkdir(filepath.Join(dir, "build"), 0o755))
	for file, from := range map[string]string{
		"build/weft": s.weft, "Dockerfile": "../Dockerfile", ".dockerignore": "../.dockerignore", "config.json": "../config.json",
	} {
		content, err := os.ReadFile(from)
		must(s.t, err)
		must(s.t, os.WriteFile(filepath.Join(dir, file), content, 0o755))
	}
	return dir
}

// commands runs, in a directory, the block of README.md that holds a command, without its
// make: that has been done.
func (s *scene) commands(h *lab.Host, dir, command string) {
	s.t.Helper()
	readme, err := os.ReadFile("../README.md")
	must(s.t, err)
	before, after, found := strings.Cut(string(readme), command)
	if !found {
		s.t.Fatalf("README.md has no %q", command)
	}
	before = before[strings.LastIndex(before, "```sh\n")+len("```sh\n"):]
	after, _, _ = strings.Cut(after, "```")
	script := strings.ReplaceAll(before+command+after, "make build", "true")
	out, err := h.Exec(s.t.Context(), "sh", "-ec", "cd "+dir+"\n"+script)
	must(s.t, err)
	s.t.Log(out)
}
