package main_test

import (
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// advice is what a refusal has for the user or the operator: what can be done.
var advice = regexp.MustCompile(`(?i)\b(choose|start|stop|remove|use|give|add|create|join|try|trying|wait|waiting|repair|see|look|run|set|ask|say|leave|make|restore|enable|want|did you mean|restart|move|open|upgrade|report|weft [a-z]+)\b|--[a-z]`)

// wrapper is a text that is only put around another one, and ends in that.
var wrapper = regexp.MustCompile(`(^|[:;] |\()%[svw]\)?$`)

// inner are sentences that no user and no operator is told: what one agent answers
// another, or a bug, of which there is nothing to say but what it is.
var inner = []string{
	"ledger/state: decision %d was made already; the newest is %d",
	"ledger/state: command %s comes without its arguments",
	"ledger/state: command %s does not say which host asks",
	"ledger/state: an address is reserved under a name of 1 to 255 printable bytes, not %.40q",
	"ledger/founding: a plan of founding without cluster or keepers",
	"ledger/founding: a plan of founding with the keeper %s at %s",
	"ledger: the command %s has %d bytes, the limit is %d",
	"ledger/state: %s does not fit into a record: %s",
	"attach: it is the record of something else",
	"attach: its kind is not known",
	"ipam: it is about %s",
	"plugin: docker has not called yet",
	"rpc: %s takes POST, not %s",
	"store: store: a cluster id of zero means none",
}

// TestRefusalsSayWhatToDo reads every refusal, and what else the packages that answer
// Docker or an operator put into words of their own: each says what can be done.
// TestRefusals of package plugin meets them and looks for the names.
func TestRefusalsSayWhatToDo(t *testing.T) {
	kinds := map[string]int{}
	left := slices.Clone(inner)
	for _, s := range sources(t) {
		if s.test || strings.HasSuffix(s.pkg, "test") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			text, kind, ok := sentence(s.pkg, call)
			if !ok {
				return true
			}
			kinds[kind]++
			if known := slices.Index(left, s.pkg+": "+text); known >= 0 {
				left = slices.Delete(left, known, known+1)
			} else if !advice.MatchString(text) && !wrapper.MatchString(text) {
				t.Errorf("%s: %q does not say what to do", s.set.Position(call.Pos()), text)
			}
			return true
		})
	}
	for _, kind := range []string{"Exhausted", "Overlaps", "Held", "Outside", "Unknown", "Conflict", "NoQuorum", "Foreign", "Fenced", "Removed", "Busy", "BadInput", ""} {
		if kinds[kind] == 0 {
			t.Errorf("no refusal of kind %q was found", kind)
		}
	}
	if len(left) > 0 {
		t.Errorf("these are said no more: %q", left)
	}
}

// sentence is what a call says if it makes a refusal or, in a package that answers Docker,
// an error that is not about another one or is only about the end of the time.
func sentence(pkg string, call *ast.CallExpr) (text, kind string, ok bool) {
	at := 0
	switch selector(call.Fun) {
	case "netmap.Refuse":
		_, kind, _ = strings.Cut(selector(call.Args[0]), ".")
		at = 1
	case "fmt.Errorf", "errors.New":
		if !slices.Contains([]string{".", "ipam", "driver", "attach", "plugin", "rpc"}, pkg) {
			return "", "", false
		}
	default:
		return "", "", false
	}
	literal, isText := call.Args[at].(*ast.BasicLit)
	if !isText {
		return "", "", false
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		return "", "", false
	}
	if at == 0 && strings.HasSuffix(text, "%w") {
		last, isCall := call.Args[len(call.Args)-1].(*ast.CallExpr)
		if !isCall || !strings.HasSuffix(selector(last.Fun), ".Err") {
			return "", "", false
		}
		text = strings.TrimSuffix(text, ": %w")
	}
	return text, kind, true
}
