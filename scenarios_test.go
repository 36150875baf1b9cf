package main_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestScenariosHaveTests: docs/scenarios.md has each scenario once, with tests that
// exist or the word that it does not apply, and each scene of the exact simulation is
// one of them.
func TestScenariosHaveTests(t *testing.T) {
	tests, scenes := map[string]bool{}, map[string]bool{}
	function, scene := regexp.MustCompile(`(?m)^func (Test\w+)\(`), regexp.MustCompile(`(?m)^\t\{(?:name: )?"(\d+): `)
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		for _, m := range function.FindAllStringSubmatch(s.text, -1) {
			tests[m[1]] = true
		}
		for _, m := range scene.FindAllStringSubmatch(s.text, -1) {
			scenes[m[1]] = s.pkg == "sim/exact"
		}
	}
	text, err := os.ReadFile("docs/scenarios.md")
	if err != nil {
		t.Fatal(err)
	}
	n, name := 0, regexp.MustCompile("`(Test\\w+)`")
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		number := strings.TrimPrefix(cells[0], "| ")
		if _, err := strconv.Atoi(number); err != nil {
			continue
		}
		if n++; number != strconv.Itoa(n) || len(cells) != 3 {
			t.Fatalf("%q: want scenario %d", line, n)
		}
		named := name.FindAllStringSubmatch(cells[2], -1)
		if len(named) == 0 && !strings.HasPrefix(cells[2], "does not apply: ") {
			t.Errorf("%s: no test, and no word why", line)
		}
		for _, m := range named {
			if !tests[m[1]] {
				t.Errorf("scenario %d: there is no test %s", n, m[1])
			}
		}
		if told := strings.Contains(cells[2], "`TestScenes`"); told != scenes[number] {
			t.Errorf("scenario %d: told as a story of TestScenes %v, and there is one %v", n, told, scenes[number])
		}
	}
	if n != 46 {
		t.Errorf("%d scenarios, want 46", n)
	}
}
