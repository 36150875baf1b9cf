// Package document replaces the figures in a text by those of a new run.
package document

import (
	"fmt"
	"os"
	"strings"
)

// end is the line after the figures. The line before them names the command that writes them.
const end = "<!-- end of figures -->\n"

func begin(command string) string { return "<!-- figures: written by " + command + " -->\n" }

// Document is a text with a place for the figures of one command.
type Document struct {
	file          string
	before, after string
}

// Open reads a file. It fails if the file has no place for the figures of the command, such as
// "make bench", so a caller opens it before it measures anything.
func Open(file, command string) (Document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Document{}, fmt.Errorf("document: %w", err)
	}
	before, rest, begins := strings.Cut(string(text), begin(command))
	_, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		return Document{}, fmt.Errorf("document: %s has no place for figures: want the lines %q and %q in it", file, strings.TrimSpace(begin(command)), strings.TrimSpace(end))
	}
	return Document{file, before + begin(command), end + after}, nil
}

// Enter puts figures, which end with a line break, where the last ones were.
func (d Document) Enter(figures string) error {
	if err := os.WriteFile(d.file, []byte(d.before+figures+d.after), 0o644); err != nil {
		return fmt.Errorf("document: %w", err)
	}
	return nil
}
