package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeDocker writes down how it is called, and knows a plugin if $KNOWN is set.
const fakeDocker = `#!/bin/sh
case "$*" in
"plugin inspect -f"*) printf '%s\n' "PATH=/bin" "WEFT_ROOT=/host" "WEFT_JOIN=a b,c" "WEFT_PORT=7000" ;;
"plugin inspect "*) [ -n "$KNOWN" ] ;;
"plugin enable "*) echo "$*" >>"$CALLS"; [ -z "$BROKEN" ] ;;
*) printf '%s' "$1 $2" >>"$CALLS"; shift 2; printf ' [%s]' "$@" >>"$CALLS"; echo >>"$CALLS" ;;
esac
`

func TestInstallPlugin(t *testing.T) {
	for _, tc := range []struct {
		name  string
		env   string
		args  []string
		calls string
		fails string
	}{
		{
			name: "first time", args: []string{"weftnet/weft:latest", "dir"},
			calls: "plugin create [weftnet/weft:latest] [dir]\nplugin enable weftnet/weft:latest\n",
		},
		{
			name: "with settings", args: []string{"w:1", "dir", "WEFT_JOIN=10.0.0.1", "WEFT_PORT=1"},
			calls: "plugin create [w:1] [dir]\nplugin set [w:1] [WEFT_JOIN=10.0.0.1] [WEFT_PORT=1]\nplugin enable w:1\n",
		},
		{
			name: "again keeps the settings", env: "KNOWN=1", args: []string{"w:1", "dir"},
			calls: "plugin disable [-f] [w:1]\nplugin rm [-f] [w:1]\nplugin create [w:1] [dir]\n" +
				"plugin set [w:1] [WEFT_JOIN=a b,c] [WEFT_PORT=7000]\nplugin enable w:1\n",
		},
		{
			name: "again with settings", env: "KNOWN=1", args: []string{"w:1", "dir", "WEFT_PORT=1"},
			calls: "plugin disable [-f] [w:1]\nplugin rm [-f] [w:1]\nplugin create [w:1] [dir]\n" +
				"plugin set [w:1] [WEFT_PORT=1]\nplugin enable w:1\n",
		},
		{
			name: "does not start", env: "BROKEN=1", args: []string{"w:1", "dir"},
			calls: "plugin create [w:1] [dir]\nplugin enable w:1\n", fails: "w:1 did not start",
		},
		{name: "no arguments", fails: "usage:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			calls := filepath.Join(dir, "calls")
			if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(fakeDocker), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "../scripts/install-plugin.sh", tc.args...)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "CALLS="+calls, tc.env)
			out, err := cmd.CombinedOutput()
			if (err != nil) != (tc.fails != "") || !strings.Contains(string(out), tc.fails) {
				t.Fatalf("%v\n%s", err, out)
			}
			got, _ := os.ReadFile(calls)
			if diff := cmp.Diff(tc.calls, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
