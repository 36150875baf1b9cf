package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/labtest"
)

const leastConfig = `{
  "description": "the least plugin", "entrypoint": ["/least"], "pidhost": true, "network": {"type": "host"},
  "interface": {"types": ["docker.networkdriver/1.0"], "socket": "least.sock"},
  "env": [{"name": "GREETING", "value": "hello", "settable": ["value"]}]
}`

// leastPlugin builds a plugin directory as `docker plugin create` wants it.
func leastPlugin(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "rootfs", "least"), "./testdata/plugin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(leastConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestIntegrationPlugin(t *testing.T) {
	l := labtest.Up(t, lab.Config{Hosts: 1})
	h, ctx, dir := l.Host(1), t.Context(), leastPlugin(t)

	if err := h.KillAgent(ctx); err == nil || !strings.Contains(err.Error(), lab.PluginName) {
		t.Errorf("killing a plugin that is not installed: %v", err)
	}
	err := h.InstallPlugin(ctx, dir, "GREETING=rude")
	if err == nil || !strings.Contains(err.Error(), "rude is not a greeting") {
		t.Errorf("a plugin that ends at once gives an error without its log: %v", err)
	}
	for range 2 {
		if err := h.InstallPlugin(ctx, dir, "GREETING=good day"); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.ReadFile(filepath.Join(h.LogDir(), "dockerd.log"))
	if err != nil || !strings.Contains(string(log), "greeting is good day") {
		t.Errorf("the plugin's setting is not in its log (%v)", err)
	}

	before, err := h.Agent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	comm := must(t)(h.Exec(ctx, "sh", "-c", "cat /proc/$1/comm", "sh", strconv.Itoa(before)))
	if comm != "least" {
		t.Errorf("the agent is process %d, which is %q", before, comm)
	}
	for range 2 {
		if err := h.KillAgent(ctx); err != nil {
			t.Fatal(err)
		}
	}
	after, err := h.Agent(ctx)
	if err != nil || after == before {
		t.Errorf("after the kill the agent is process %d, before it was %d (%v)", after, before, err)
	}

	registry, err := h.StartRegistry(ctx)
	if err != nil {
		t.Fatal(err)
	}
	name := registry + "/weft/least:1"
	// Docker 20.10 does not create the same contents under two names ("content already exists").
	must(t)(h.Docker(ctx, "plugin", "rm", "--force", lab.PluginName))
	must(t)(h.Docker(ctx, "plugin", "create", name, dir))
	must(t)(h.Docker(ctx, "plugin", "push", name))
	must(t)(h.Docker(ctx, "plugin", "rm", name))
	must(t)(h.Docker(ctx, "plugin", "install", "--grant-all-permissions", name, "GREETING=from the registry"))
	if enabled := must(t)(h.Docker(ctx, "plugin", "inspect", "--format", "{{.Enabled}}", name)); enabled != "true" {
		t.Errorf("the plugin from the registry is enabled: %s", enabled)
	}
}
