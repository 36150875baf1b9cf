package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/settings"
)

// logged makes the agent's log on a buffer, and puts the standard library's back.
func logged(t *testing.T, s settings.Settings) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	before, flags := slog.Default(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(os.Stderr)
		log.SetFlags(flags)
	})
	out := &bytes.Buffer{}
	return newLog(out, s), out
}

func TestLogLines(t *testing.T) {
	for _, c := range []struct {
		format string
		want   []string
	}{
		{"text", []string{
			`level=warning msg="the facts differ" addr=10.32.0.2 agent=web-1 err="two\nlines <b>" took=1.5s`,
			`level=info msg="http: of the standard library" agent=web-1`,
			`level=error msg=last agent=web-1 op.kind=plug peer=b`,
		}},
		{"json", []string{
			`{"addr":"10.32.0.2","agent":"web-1","err":"two\nlines <b>","level":"warning","msg":"the facts differ","took":1500000000}`,
			`{"agent":"web-1","level":"info","msg":"http: of the standard library"}`,
			`{"agent":"web-1","level":"error","msg":"last","op.kind":"plug","peer":"b"}`,
		}},
	} {
		l, out := logged(t, settings.Settings{Name: "web-1", LogLevel: "info", LogFormat: c.format})
		l.Debug("nobody reads this")
		l.Warn("the facts differ", "err", errors.New("two\nlines <b>"), "addr", netip.MustParseAddr("10.32.0.2"), "took", 1500*time.Millisecond)
		log.Print("http: of the standard library")
		l.With("peer", "b").WithGroup("op").Error("last", "kind", "plug")
		var got []string
		for line := range strings.Lines(out.String()) {
			got = append(got, withoutTime(t, strings.TrimSuffix(line, "\n")))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", c.format, diff)
		}
	}
}

// withoutTime checks and removes the time of a line.
func withoutTime(t *testing.T, line string) string {
	t.Helper()
	at, rest, text := strings.Cut(strings.TrimPrefix(line, "time="), " ")
	at = strings.Trim(at, `"`)
	if !text || strings.HasPrefix(line, "{") {
		fields := map[string]any{}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		at, _ = fields["time"].(string)
		delete(fields, "time")
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(fields); err != nil {
			t.Fatal(err)
		}
		rest = strings.TrimSpace(b.String())
	}
	if when, err := time.Parse(time.RFC3339Nano, at); err != nil || time.Since(when) > time.Hour {
		t.Errorf("%s has the time %q (%v)", line, at, err)
	}
	return rest
}

func TestLogLevels(t *testing.T) {
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	for i, name := range []string{"debug", "info", "warn", "error"} {
		l, out := logged(t, settings.Settings{LogLevel: name})
		for _, level := range levels {
			l.Log(t.Context(), level, "line")
		}
		if got, want := strings.Count(out.String(), "msg=line"), len(levels)-i; got != want {
			t.Errorf("at %s %d lines, want %d:\n%s", name, got, want, out)
		}
	}
}

// TestLogHandlerKeepsTheRules: what log/slog asks of every handler, with groups as
// prefixes of keys.
func TestLogHandlerKeepsTheRules(t *testing.T) {
	var out *bytes.Buffer
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		var l *slog.Logger
		l, out = logged(t, settings.Settings{LogFormat: "json"})
		return l.Handler()
	}, func(t *testing.T) map[string]any {
		flat, nested := map[string]any{}, map[string]any{}
		if err := json.Unmarshal(out.Bytes(), &flat); err != nil {
			t.Fatal(err)
		}
		for key, value := range flat {
			in, parts := nested, strings.Split(key, ".")
			for _, p := range parts[:len(parts)-1] {
				if in[p] == nil {
					in[p] = map[string]any{}
				}
				in = in[p].(map[string]any)
			}
			in[parts[len(parts)-1]] = value
		}
		if strings.HasSuffix(t.Name(), "/zero-time") {
			delete(nested, "time") // logrus writes one in every line
		}
		return nested
	})
}
