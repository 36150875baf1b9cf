package main_test

import (
	"go/ast"
	"strings"
	"testing"
)

// TestNamespacesAreEnteredInOnePackage: a thread that comes back in a wrong namespace
// carries any goroutine there.
func TestNamespacesAreEnteredInOnePackage(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg == "netns" || strings.HasPrefix(s.pkg, "lab") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch call := selector(n); call {
			case "unix.Setns", "unix.Unshare", "runtime.LockOSThread":
				t.Errorf("%s: %s; netns.Open and Do enter namespaces", s.set.Position(n.Pos()), call)
			}
			return true
		})
	}
}
