// Package engines makes a table of the end-to-end tests that passed on each Docker Engine.
package engines

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The results of a test in a Run. Any other result is the reason why it was skipped.
const (
	Passed  = "passes"
	Failed  = "FAILS"
	Endless = "HAS NO END" // it was running when the program ended
)

// Run is what go test -v reported of one engine.
type Run struct {
	Engine string            // such as "26.1.5 (trixie)"
	Tests  map[string]string // result by name, of the tests themselves and not of their parts
}

// In the output of go test -v, at the beginning of a line.
var (
	began = regexp.MustCompile(`^=== RUN   (\w+)$`)
	ended = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\w+) \(`)
	where = regexp.MustCompile(`^ +\w+\.go:\d+: `)
)

// Read takes the results out of the output of go test -v. It fails if no test is in it.
func Read(engine string, output io.Reader) (Run, error) {
	r := Run{Engine: engine, Tests: map[string]string{}}
	last := ""
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 16<<20) // a test may print the whole log of an agent in a line
	for lines.Scan() {
		line := lines.Text()
		if m := began.FindStringSubmatch(line); m != nil {
			r.Tests[m[1]] = Endless
		}
		if m := ended.FindStringSubmatch(line); m != nil {
			result := map[string]string{"PASS": Passed, "FAIL": Failed}[m[1]]
			if result == "" {
				result = where.ReplaceAllString(last, "")
			}
			r.Tests[m[2]] = result
		}
		last = line
	}
	if err := lines.Err(); err != nil {
		return Run{}, fmt.Errorf("engines: %s: %w", engine, err)
	}
	if len(r.Tests) == 0 {
		return Run{}, fmt.Errorf("engines: %s: no test was run", engine)
	}
	return r, nil
}

// Table is Markdown: a row for each test, a column for each engine, and below it why tests were skipped.
func Table(commit string, runs []Run) string {
	var b strings.Builder
	row := func(first string, cell func(Run) string) {
		b.WriteString("| " + first + " |")
		for _, r := range runs {
			b.WriteString(" " + cell(r) + " |")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "Commit %s.\n\n", commit)
	row("test", func(r Run) string { return r.Engine })
	row("---", func(Run) string { return "---" })
	row("passed", func(r Run) string { return fmt.Sprintf("%d of %d", r.count(Passed), len(r.Tests)) })
	var skips []string
	for _, test := range tests(runs) {
		row("`"+test+"`", func(r Run) string {
			switch result := r.Tests[test]; result {
			case Passed, Failed, Endless, "":
				return result
			default:
				skips = append(skips, fmt.Sprintf("- `%s` on %s: %s\n", test, r.Engine, result))
				return "skipped"
			}
		})
	}
	if len(skips) > 0 {
		b.WriteString("\nSkipped:\n\n" + strings.Join(skips, ""))
	}
	return b.String()
}

func (r Run) count(result string) int {
	n := 0
	for _, is := range r.Tests {
		if is == result {
			n++
		}
	}
	return n
}

func tests(runs []Run) []string {
	all := map[string]bool{}
	for _, r := range runs {
		for test := range r.Tests {
			all[test] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
