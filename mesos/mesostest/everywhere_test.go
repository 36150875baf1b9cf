package mesostest

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeDocker knows one plugin: $HAS is there when it was created, $RUNS when it is enabled. It writes down what
// changes something.
const fakeDocker = `#!/bin/sh
case "$1 $2" in
"plugin inspect")
	[ -z "$NO_DOCKER" ] && [ -e "$HAS" ] || { echo "Error" >&2; exit 1; }
	[ -e "$RUNS" ] && echo true || echo false
	exit ;;
esac
printf '%s %s' "$1" "$2" >>"$CALLS"; shift; verb=$1; shift; printf ' [%s]' "$@" >>"$CALLS"; echo >>"$CALLS"
[ -z "$NO_DOCKER" ] || exit 1
case $verb in
create | install) : >"$HAS" ;;
enable) : >"$RUNS" ;;
esac
`

// fakeSleep ends the task: its script ends with the first command that fails.
const fakeSleep = "#!/bin/sh\nexit 7\n"

// fetched makes the files in a task's sandbox that Mesos' fetcher (launcher/fetcher.cpp) leaves there: from its cache it
// unpacks an archive without copying it.
func fetched(t *testing.T, app []byte, sandbox string) {
	t.Helper()
	var got struct {
		Fetch []struct {
			URI            string
			Extract, Cache bool
		}
	}
	must(t, json.Unmarshal(app, &got))
	for _, f := range got.Fetch {
		if f.Extract {
			must(t, os.MkdirAll(filepath.Join(sandbox, "weft-plugin"), 0o755))
		}
		if !f.Extract || !f.Cache {
			must(t, os.WriteFile(filepath.Join(sandbox, path.Base(f.URI)), nil, 0o644))
		}
	}
}

// TestTheTaskOfWeft installs the plugin, goes on where a task that was killed had stopped, and leaves alone what runs.
func TestTheTaskOfWeft(t *testing.T) {
	text, app := readExample(t, "weft-everywhere.json")
	const (
		created = "plugin create [weftnet/weft:latest] [weft-plugin]\n"
		started = "plugin set [weftnet/weft:latest] [WEFT_EXPECT=agents] [WEFT_JOIN=mesos+http://leader.mesos:5050] [WEFT_NAME=a b,c]\nplugin enable [weftnet/weft:latest]\n"
		empty   = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	)
	for _, c := range []struct {
		name      string
		has, runs bool
		env       []string
		calls     string
		code      int
	}{
		{"nothing is there", false, false, nil, created + started, 7},
		{"a tarball with the right checksum", false, false, []string{"SHA256=" + empty}, created + started, 7},
		{"a tarball with a wrong checksum", false, false, []string{"SHA256=" + strings.Repeat("0", 64)}, "", 1},
		{"a registry", false, false, []string{"PLUGIN=r.example/weft:1"}, "plugin install [--disable] [--grant-all-permissions] [--alias] [weftnet/weft:latest] [r.example/weft:1]\n" + started, 7},
		{"killed before it was enabled", true, false, nil, started, 7},
		{"it runs", true, true, nil, "", 7},
		{"Docker is away", true, true, []string{"NO_DOCKER=1"}, created, 1},
	} {
		dir := t.TempDir()
		file := func(name, text string) string {
			path := filepath.Join(dir, name)
			must(t, os.WriteFile(path, []byte(text), 0o755))
			return path
		}
		file("docker", fakeDocker)
		file("sleep", fakeSleep)
		fetched(t, text, dir)
		if c.has {
			file("has", "")
		}
		if c.runs {
			file("runs", "")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", app.Cmd) // as Mesos' command executor does
		cmd.Dir = dir
		cmd.Env = append([]string{
			"PATH=" + dir + ":" + os.Getenv("PATH"), "CALLS=" + filepath.Join(dir, "calls"), "HAS=" + filepath.Join(dir, "has"), "RUNS=" + filepath.Join(dir, "runs"),
			"WEFT_EXPECT=agents", "WEFT_JOIN=mesos+http://leader.mesos:5050", "WEFT_NAME=a b,c", "HOST=192.0.2.1",
		}, c.env...)
		out, err := cmd.CombinedOutput()
		calls, _ := os.ReadFile(filepath.Join(dir, "calls")) // there is none without calls
		if diff := cmp.Diff(c.calls, string(calls)); diff != "" {
			t.Errorf("%s (-want +got):\n%s%s", c.name, diff, out)
		}
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: exit code %d (%v), want %d\n%s", c.name, got, err, c.code, out)
		}
	}
}
