package main_test

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// advice is what a refusal ends with: what the user or the operator can do.
var advice = regexp.MustCompile(`(?i)\b(choose|start|stop|remove|use|give|add|create|join|try|trying|wait|waiting|repair|see|look|run|set|ask|say|leave|weft [a-z]+)\b|--[a-z]`)

// TestRefusalsSayWhatToDo collects every refusal of the kinds that a user meets.
func TestRefusalsSayWhatToDo(t *testing.T) {
	kinds := map[string]int{"Exhausted": 0, "Overlaps": 0, "Held": 0, "Outside": 0, "NoQuorum": 0, "Conflict": 0, "Foreign": 0}
	for _, s := range sources(t) {
		if s.test || !slices.Contains([]string{"ledger", "plugin", "ipam", "driver"}, s.room) {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || selector(call.Fun) != "netmap.Refuse" || len(call.Args) < 2 {
				return true
			}
			_, kind, _ := strings.Cut(selector(call.Args[0]), ".")
			text, isText := call.Args[1].(*ast.BasicLit)
			if _, watched := kinds[kind]; !watched || !isText {
				return true
			}
			kinds[kind]++
			// A text that is only put around another one ends in that.
			if !advice.MatchString(text.Value) && !strings.HasSuffix(text.Value, `%s"`) && !strings.HasSuffix(text.Value, `%v"`) {
				t.Errorf("%s: %s does not say what to do", s.set.Position(call.Pos()), text.Value)
			}
			return true
		})
	}
	for kind, n := range kinds {
		if n == 0 {
			t.Errorf("no refusal of kind %s was found", kind)
		}
	}
}
