package document

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const command = "make figures"

func TestADocumentGetsNewFiguresForOld(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures.md")
	before, after := "# Figures\n\n"+begin(command), end+"\nWhat it means.\n"
	if err := os.WriteFile(file, []byte(before+"old figures\n"+after), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, figures := range []string{"new figures\n", "newer figures\n"} { // the second time over those of the first
		d, err := Open(file, command)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Enter(figures); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before+figures+after, string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestADocumentWithoutAPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(file, []byte(begin(command)+"no end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + ".none"} {
		if _, err := Open(name, command); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheDocumentationHasPlaces for what the commands find.
func TestTheDocumentationHasPlaces(t *testing.T) {
	for file, command := range map[string]string{"benchmarks.md": "make bench", "scale.md": "make scale", "engines.md": "make test-engines"} {
		if _, err := Open("../../docs/"+file, command); err != nil {
			t.Error(err)
		}
	}
}
