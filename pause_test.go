package main_test

import (
	"go/ast"
	"go/token"
	"testing"
)

// TestPausesAreTurnSleep: a wait for either a timer or the end of a context is
// turn.Sleep, and nothing but turn has it by itself.
func TestPausesAreTurnSleep(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.pkg == "turn" {
			continue
		}
		for _, d := range s.ast.Decls {
			at, ticks := token.NoPos, false
			ast.Inspect(d, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectStmt); ok && isPause(sel) {
					at = n.Pos()
				}
				ticks = ticks || selector(n) == "time.NewTicker" // it goes on while nobody waits
				return true
			})
			if at.IsValid() && !ticks {
				t.Errorf("%s: this is turn.Sleep", s.set.Position(at))
			}
		}
	}
}

// isPause reports whether a select waits for two things, a timer and the end of a context.
func isPause(sel *ast.SelectStmt) bool {
	timer, done := 0, 0
	for _, clause := range sel.Body.List {
		comm, _ := clause.(*ast.CommClause).Comm.(*ast.ExprStmt)
		if comm == nil {
			return false // default, a send, or what is received matters
		}
		receive, ok := comm.X.(*ast.UnaryExpr)
		if !ok || receive.Op != token.ARROW {
			return false
		}
		from := receive.X
		if call, ok := from.(*ast.CallExpr); ok {
			from = call.Fun
		}
		sel, ok := from.(*ast.SelectorExpr)
		switch {
		case ok && (sel.Sel.Name == "C" || sel.Sel.Name == "After"):
			timer++
		case ok && sel.Sel.Name == "Done":
			done++
		}
	}
	return timer == 1 && done == 1 && len(sel.Body.List) == 2
}
