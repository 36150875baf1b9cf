package settings

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/settings.md anew")

const docsFile = "../docs/settings.md"

func TestDocsAreCurrent(t *testing.T) {
	if *update {
		if err := os.WriteFile(docsFile, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Markdown(), string(have)); diff != "" {
		t.Errorf("%s is stale, run: go generate ./settings\n%s", docsFile, diff)
	}
}

func TestRowsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Table() {
		if !strings.HasPrefix(s.Env, Prefix) || s.Meaning == "" || s.Wants == "" || s.Type == "" || s.parse == nil || seen[s.Env] {
			t.Errorf("row %q lacks something or comes twice", s.Env)
		}
		seen[s.Env] = true
		if err := s.parse(&Settings{}, s.Default); err != nil {
			t.Errorf("%s does not take its own default %q: %v", s.Env, s.Default, err)
		}
		if strings.ContainsAny(s.Meaning+s.Wants, "|\n") {
			t.Errorf("%s would break its line of a table", s.Env)
		}
	}
}

func TestFlag(t *testing.T) {
	if got := (Setting{Env: "WEFT_VXLAN_PORT"}).Flag(); got != "vxlan-port" {
		t.Errorf("flag %q", got)
	}
}

func TestUsage(t *testing.T) {
	for _, s := range Table() {
		if !strings.Contains(s.Usage(), "["+s.Env+"]") {
			t.Errorf("usage of %s: %s", s.Env, s.Usage())
		}
	}
}

func TestPluginEnv(t *testing.T) {
	env := PluginEnv("/host")
	if len(env) != len(Table()) {
		t.Fatalf("%d variables for %d settings", len(env), len(Table()))
	}
	var environ []string
	for _, v := range env {
		if settable := len(v.Settable) > 0; settable == (v.Name == "WEFT_ROOT") {
			t.Errorf("%s settable: %v", v.Name, settable)
		}
		environ = append(environ, v.Name+"="+v.Value)
	}
	got, err := Load(Source{Environ: environ})
	if err != nil {
		t.Fatalf("the plugin does not start as it comes: %v", err)
	}
	if diff := cmp.Diff(from(func(s *Settings) { s.Root = "/host" }), got, byValue); diff != "" {
		t.Error(diff)
	}
}

func TestSuggest(t *testing.T) {
	for word, want := range map[string]string{
		"jion":      "perhaps join is meant",
		"vxlanport": "perhaps vxlan-port is meant",
		"pont":      "perhaps port is meant",
		"zzzzzzzzz": "want one of join, port, vxlan-port",
	} {
		if got := suggest(word, []string{"join", "port", "vxlan-port"}); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"join", "jion", 2}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q to %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
