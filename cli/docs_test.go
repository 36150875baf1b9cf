package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedCommandLinesExist: every command line of weft in a code block of the
// documents is one that this release has, flags included.
func TestDocumentedCommandLinesExist(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ *(?:host-[a-c]# )?(?:build/)?weft ([^|>#\n]+)`)
	found := 0
	for _, file := range append(files, "../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(text), "```") {
			if i%2 == 0 || !strings.HasPrefix(block, "sh\n") && !strings.HasPrefix(block, "console\n") {
				continue // no code, or no command lines
			}
			for _, m := range line.FindAllStringSubmatch(block, -1) {
				if strings.Contains(m[0], "…") {
					continue // what a command shows
				}
				found++
				if err := exists(strings.Fields(m[1])); err != nil {
					t.Errorf("%s: weft %s: %v", filepath.Base(file), m[1], err)
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("%d command lines in all: is this looking in the wrong place?", found)
	}
}

// exists is an error if there is no such command, or if it does not take these arguments
// and flags.
func exists(words []string) error {
	cmd, args, err := root("test").Find(words)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
