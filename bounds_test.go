package main_test

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	const mostLines, mostOfFunction = 400, 80
	for _, s := range sources(t) {
		if lines := strings.Count(s.text, "\n"); lines > mostLines {
			t.Errorf("%s has %d lines, want at most %d: it is more than one concept", s.file, lines, mostLines)
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			if lines := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1; lines > mostOfFunction {
				t.Errorf("%s: %s has %d lines, want at most %d", s.set.Position(f.Pos()), f.Name.Name, lines, mostOfFunction)
			}
		}
	}
}

// harness are packages that exist for tests: the lab, and fakes beside their seams.
var harness = regexp.MustCompile(`^(lab|lab/.*|sim|sim/.*|e2e|underlay/lossy|.*test)$`)

// TestTestsOutweighWhatTheyTest: over the whole repository, lines of tests and of
// what they are made with are at least as many as lines of the product.
func TestTestsOutweighWhatTheyTest(t *testing.T) {
	source, tests := 0, 0
	for _, s := range sources(t) {
		if s.test || harness.MatchString(s.pkg) {
			tests += strings.Count(s.text, "\n")
		} else {
			source += strings.Count(s.text, "\n")
		}
	}
	if tests < source {
		t.Errorf("%d lines of tests for %d of source", tests, source)
	}
}

// TestPluginOnlyPutsTogether: package plugin starts the agent and connects its parts. What grows
// beyond these bounds belongs to a package that does one thing.
func TestPluginOnlyPutsTogether(t *testing.T) {
	const mostLines, mostMethods = 2000, 59
	lines, methods := 0, 0
	for _, s := range sources(t) {
		if s.pkg != "plugin" || s.test || strings.HasPrefix(s.text, "//go:build nextlevel") {
			continue
		}
		lines += strings.Count(s.text, "\n")
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && receiver(f) == "Agent" {
				methods++
			}
		}
	}
	t.Logf("%d lines, Agent has %d methods", lines, methods)
	if lines > mostLines || methods > mostMethods {
		t.Errorf("package plugin has %d lines and its Agent %d methods, want at most %d and %d", lines, methods, mostLines, mostMethods)
	}
}

// receiver is the type of which a function is a method, empty if it is none.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	name, _ := of.(*ast.Ident)
	if name == nil {
		return ""
	}
	return name.Name
}
