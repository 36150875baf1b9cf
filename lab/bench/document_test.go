package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestADocumentGetsNewFiguresForOld(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	const before, after = "# Benchmarks\n\n" + figuresBegin, figuresEnd + "\nWhat it means.\n"
	if err := os.WriteFile(file, []byte(before+"old figures\n"+after), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time over those of the first
		d, err := openDocument(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.enter(exampleReport()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before+"```"+exampleText+"```\n"+after, string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestADocumentWithoutAPlace is refused before anything is measured.
func TestADocumentWithoutAPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(file, []byte(figuresBegin+"no end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + ".none"} {
		c := Config{Rounds: 1, Duration: 1e9, Connections: 1, RoundTrips: 100, Starts: 1, Addresses: 16, Document: name}
		if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheDocumentationHasAPlace for what make bench finds.
func TestTheDocumentationHasAPlace(t *testing.T) {
	if _, err := openDocument("../../docs/benchmarks.md"); err != nil {
		t.Error(err)
	}
}
