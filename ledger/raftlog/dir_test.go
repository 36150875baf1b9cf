package raftlog

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAReplacementThatWasKilledIsEndedOrUndone: the directory is the old one or the
// complete new one, never half of it and never none.
func TestAReplacementThatWasKilledIsEndedOrUndone(t *testing.T) {
	for name, c := range map[string]struct {
		there map[string]string // directory: what is in it
		want  string
	}{
		"nothing happened":            {map[string]string{"": "old"}, "old"},
		"while it was written":        {map[string]string{"": "old", HalfDir: "half"}, "old"},
		"when it was complete":        {map[string]string{"": "old", freshDir: "new"}, "old"},
		"when the old was set aside":  {map[string]string{OldDir: "old", freshDir: "new"}, "new"},
		"after it":                    {map[string]string{"": "new", OldDir: "old"}, "new"},
		"no log, while it is written": {map[string]string{HalfDir: "half"}, ""},
		"no log, when complete":       {map[string]string{freshDir: "new"}, "new"},
		"twice":                       {map[string]string{"": "old", HalfDir: "half", freshDir: "new", OldDir: "older"}, "old"},
	} {
		dir := filepath.Join(t.TempDir(), "ledger")
		for suffix, text := range c.there {
			if err := os.MkdirAll(dir+suffix, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir+suffix, "what"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := FinishReplace(dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "what"))
		if string(got) != c.want {
			t.Errorf("%s: the ledger is %q (%v), want %q", name, got, err, c.want)
		}
		for _, suffix := range []string{HalfDir, freshDir} {
			if _, err := os.Stat(dir + suffix); err == nil {
				t.Errorf("%s: %s is left", name, suffix)
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := os.MkdirAll(dir+HalfDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(dir); err != nil { // where nothing was before
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
