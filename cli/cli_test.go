package cli

import (
	"bytes"
	"errors"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weftnet/weft/settings"
)

// weft runs a command line and answers what it printed.
func weft(t *testing.T, line string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root("test")
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(strings.Fields(line))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTheAgentLimitsItsMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	percent := func() int {
		is := debug.SetGCPercent(100)
		debug.SetGCPercent(is)
		return is
	}
	defer debug.SetGCPercent(percent())
	t.Setenv("GOMEMLIMIT", "1GiB") // the runtime has read both at the program's start
	t.Setenv("GOGC", "200")
	limit, garbage := debug.SetMemoryLimit(-1), percent()
	if limitMemory(t.Context()); debug.SetMemoryLimit(-1) != limit || percent() != garbage {
		t.Error("the environment's limits were replaced")
	}
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	if limitMemory(t.Context()); debug.SetMemoryLimit(-1) != leastLimit || percent() != garbagePercent {
		t.Errorf("the limits are %d bytes and %d %%, want %d and %d", debug.SetMemoryLimit(-1), percent(), leastLimit, garbagePercent)
	}
	if got := limitFor(1 << 40); got != mostLimit {
		t.Errorf("the limit is %d at most, want %d", got, mostLimit)
	}
	for _, live := range []uint64{0, 60 << 20, 300 << 20} {
		if got := limitFor(live); got < leastLimit || got < int64(live+live*garbagePercent/100) {
			t.Errorf("with %d bytes in use the limit is %d: it would cost collections", live, got)
		}
	}
}

// TestMemoryIsGivenBack once nothing uses it.
func TestMemoryIsGivenBack(t *testing.T) {
	held := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapSys - m.HeapReleased
	}
	burst := make([][]byte, 64)
	for i := range burst {
		burst[i] = make([]byte, 1<<20)
	}
	before := held()
	runtime.KeepAlive(burst)
	clear(burst)
	runtime.GC()
	if !trim() || held()+48<<20 > before {
		t.Errorf("%d bytes are held after a burst of 64 MiB, and %d before its end", held(), before)
	}
	if trim() {
		t.Error("it is trimmed although nothing is free")
	}
}

func TestCommandLinesThatMakeNoSense(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "agent.sock")
	for line, want := range map[string]string{
		"version":                           `unknown command "version"`,
		"host remove web-1":                 `unknown command "remove" for "weft host"`,
		"host rm":                           "weft host rm takes one host (its name or id) and was given 0; weft status lists",
		"connect":                           "weft connect takes one peer, as in WEFT_JOIN, and was given 0; weft status lists",
		"forget a b":                        "weft forget takes one peer",
		"connect web-1 --socket " + nobody:  "no agent answers at " + nobody,
		"range add":                         "weft range add takes one prefix",
		"range ad 10.48.0.0/12":             `unknown command "ad" for "weft range"`,
		"range add 10.48/12":                "is not a prefix; want one such as",
		"network rm":                        "weft network rm takes one network (its name or number)",
		"network rm web --socket " + nobody: "no agent answers at " + nobody,
		"ledger log --since yesterday --socket " + nobody: `--since "yesterday": want how long ago it was`,
		"dns lookup":                        "weft dns lookup takes one name or address and was given 0",
		"dns add nas":                       "accepts 2 arg(s), received 1",
		"dns add nas 192.0.2 --network web": `"192.0.2" is not an address`,
		"dns rm nas --network web --socket " + nobody: "no agent answers at " + nobody,
		"ledger logs":                      `unknown command "logs" for "weft ledger"`,
		"status now":                       `unknown command "now"`,
		"status --xml":                     "unknown flag: --xml",
		"cleanup everything":               `unknown command "everything"`,
		"agent --prot 1":                   "unknown flag: --prot",
		"agent --port none":                "--port=none: want a port number",
		"agent --replicate --port none":    "--port=none: want a port number",
		"agent --replicate=maybe":          "--replicate=maybe: want true or false",
		"status --socket " + nobody:        "no agent answers at " + nobody,
		"host rm web-1 --socket " + nobody: "no agent answers at " + nobody,
	} {
		if out, err := weft(t, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("weft %s: %v, want %q\n%s", line, err, want, out)
		}
	}
}

// TestAgentThatCannotStartLogsWhy: what dockerd copies into its log is a line of the
// agent's log, and only one.
func TestAgentThatCannotStartLogsWhy(t *testing.T) {
	logged(t, settings.Settings{}) // puts the standard library's log back
	out, err := weft(t, "agent --port none")
	if _, known := errors.AsType[*loggedError](err); !known {
		t.Errorf("main would say it once more: %v", err)
	}
	if strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "time=") || !strings.Contains(out, "level=error") || !strings.Contains(out, "want a port number") {
		t.Errorf("the agent's log is %s", out)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		line := strings.TrimPrefix(cmd.CommandPath(), "weft") + " --help"
		if out, err := weft(t, line); err != nil || cmd.Short == "" || !strings.Contains(out, "Usage:") {
			t.Errorf("weft%s: %v\n%s", line, err, out)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			kind, usage := pflag.UnquoteUsage(f)
			if usage == "" || strings.HasPrefix(kind, "string") || kind == "int" || strings.Contains(usage, "for programs") {
				t.Errorf("weft%s: --%s %s: %q: say what the flag does and what it takes", line, f.Name, kind, usage)
			}
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root("test"))
}

// TestHelpShowsTypes of the flags that settings have.
func TestHelpShowsTypes(t *testing.T) {
	out, err := weft(t, "agent --help")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--port port ", "--remove-after duration ", "--replicate  ", "--status address:port ", "--state directory ", "(default 72h)"} {
		if !strings.Contains(out, flag) {
			t.Errorf("no %q in\n%s", flag, out)
		}
	}
	if strings.Contains(out, "--root") {
		t.Errorf("a hidden flag is shown:\n%s", out)
	}
}
