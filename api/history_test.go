package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
)

// TestHistorySaysWhatIsForgotten, and since when nothing is.
func TestHistorySaysWhatIsForgotten(t *testing.T) {
	var h api.History
	h.Forget("nothing", time.Time{})
	if !h.Since.IsZero() || len(h.Forgotten) > 0 {
		t.Errorf("nothing is forgotten, it says %+v", h)
	}
	early := time.Date(2026, 1, 31, 12, 0, 0, 0, time.Local)
	h.Forget("the containers of host host-b", early.Add(time.Hour))
	h.Forget("the containers of host host-a", early)
	if !h.Since.Equal(early.Add(time.Hour)) {
		t.Errorf("it is whole since %v", h.Since)
	}
	var text strings.Builder
	if err := api.HistoryText(&text, &h); err != nil {
		t.Fatal(err)
	}
	const want = "nothing is remembered that matches\n" +
		"forgotten: the containers of host host-a, what had ended by 2026-01-31 12:00:00\n" +
		"forgotten: the containers of host host-b, what had ended by 2026-01-31 13:00:00\n"
	if text.String() != want {
		t.Errorf("it says\n%swant\n%s", &text, want)
	}
}
