package main_test

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// documents calls visit with each Markdown file.
func documents(t *testing.T, visit func(file, text string)) {
	t.Helper()
	each(t, func(file string) {
		if path.Ext(file) != ".md" {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		visit(file, string(text))
	})
}

// TestDocumentLines are short enough to be read in a terminal and in a diff. A row of a
// table cannot be broken.
func TestDocumentLines(t *testing.T) {
	const limit = 160
	documents(t, func(file, text string) {
		n := 0
		for line := range strings.Lines(text) {
			n++
			if width := utf8.RuneCountInString(line); width > limit && !strings.HasPrefix(strings.TrimSpace(line), "|") {
				t.Errorf("%s:%d has %d columns, want at most %d", file, n, width-1, limit-1)
			}
		}
	})
}

// TestDocumentLinks lead to files, and to headings of them.
func TestDocumentLinks(t *testing.T) {
	links := 0
	documents(t, func(file, text string) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			name, heading, _ := strings.Cut(m[1], "#")
			target := file
			if name != "" {
				target = path.Join(path.Dir(file), name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			} else if heading != "" && !headings(t, target)[heading] {
				t.Errorf("%s links to %s, and %s has no such heading", file, m[1], target)
			}
		}
	})
	if links == 0 {
		t.Error("no document links to another: is this looking in the wrong place?")
	}
}

// headings are those of a document, as links name them.
func headings(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(plain, " ", "-")] = true
	}
	return out
}

// TestDocsCiteTestsThatExist: an argument that points to a test is worth what the
// test is.
func TestDocsCiteTestsThatExist(t *testing.T) {
	exists := map[string]bool{}
	for _, s := range sources(t) {
		for _, f := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(s.text, -1) {
			exists[f[1]] = true
		}
	}
	cited := 0
	documents(t, func(file, text string) {
		for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(text, -1) {
			cited++
			if !exists[name[1]] {
				t.Errorf("%s cites %s, which does not exist", file, name[1])
			}
		}
	})
	if cited == 0 {
		t.Error("no test is cited anywhere: is this looking in the wrong place?")
	}
}
