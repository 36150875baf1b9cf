package api_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"web-1, größer 10.32.0.7": "web-1, größer 10.32.0.7",
		"two\nlines\tand a tab":   "two\nlines\tand a tab",
		"\x1b[2Jgone":             `\x1b[2Jgone`,
		"\x9b2J":                  "\uFFFD2J", // not UTF-8
		"\u009b2J":                `\u009b2J`,
		"a\u202eb\r\x00":          `a\u202eb\r\x00`,
	} {
		if got := api.Printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestNobodysNameReachesTheTerminal: whatever text another host chose.
func TestNobodysNameReachesTheTerminal(t *testing.T) {
	const evil = "\x1b[2J\u009b2J\rx\nPROBLEM"
	r := sample()
	r.Name, r.State, r.Datapath.Error, r.Problems = evil, evil, evil, []string{evil}
	r.Hosts[1].Name, r.Hosts[1].Version, r.Ledger.Leader = evil, evil, r.Hosts[1].ID
	r.Networks[0].Name, r.Networks[0].Endpoints[0].Name = evil, evil
	h := &api.History{
		Lines:   []api.HistoryLine{{What: evil, Host: evil, By: evil, Container: evil, Network: evil, HostID: netmap.HostID{1}}},
		Missing: []string{evil}, Forgotten: []api.Forgotten{{What: evil}},
	}
	var text, history strings.Builder
	if err := api.Text(&text, r); err != nil {
		t.Fatal(err)
	}
	if err := api.HistoryText(&history, h); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{text.String(), history.String()} {
		if strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q", out)
		}
		if !strings.Contains(out, `\x1b[2J`) || strings.Contains(out, "\nPROBLEM\n") {
			t.Errorf("%q", out)
		}
	}
}
