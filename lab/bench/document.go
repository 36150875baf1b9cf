package bench

import (
	"fmt"
	"os"
	"strings"
)

// The lines of a document between which a run's figures stand.
const (
	figuresBegin = "<!-- figures: written by make bench -->\n"
	figuresEnd   = "<!-- end of figures -->\n"
)

// document is a text with a place for figures.
type document struct {
	file          string
	before, after string
}

// openDocument reads a file before anything is measured for it.
func openDocument(file string) (document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return document{}, fmt.Errorf("bench: %w", err)
	}
	before, rest, begins := strings.Cut(string(text), figuresBegin)
	_, after, ends := strings.Cut(rest, figuresEnd)
	if !begins || !ends {
		return document{}, fmt.Errorf("bench: %s has no place for figures: want the lines %q and %q in it", file, strings.TrimSpace(figuresBegin), strings.TrimSpace(figuresEnd))
	}
	return document{file, before, after}, nil
}

// enter puts a report where the last one was.
func (d document) enter(r Report) error {
	text := d.before + figuresBegin + "```" + text(r) + "```\n" + figuresEnd + d.after
	if err := os.WriteFile(d.file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}
