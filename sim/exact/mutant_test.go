package exact_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// buildMutants makes this very test with every mutation in it: each mutated function stands
// beside the product's, which calls it instead of what it does itself when WEFT_MUTANT is
// the mutation's number.
func buildMutants(t *testing.T, root string) (binary string) {
	t.Helper()
	dir, replace := t.TempDir(), map[string]string{}
	put := func(file, text string) {
		at := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, file)] = at
	}
	files := map[string]*mutated{}
	for n, m := range mutations {
		if files[m.file] == nil {
			files[m.file] = parse(t, root, m.file)
		}
		files[m.file].add(t, n, m)
	}
	for file, f := range files {
		put(file, f.text())
		put(path.Join(path.Dir(file), "mutant.go"), "package "+f.tree.Name.Name+"\n\nimport \"os\"\n\nvar mutant = os.Getenv(\"WEFT_MUTANT\")\n")
	}
	words, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "exact.test")
	if err := os.WriteFile(overlay, words, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// mutated is a file of the product with mutated functions beside its own.
type mutated struct {
	source string
	files  *token.FileSet
	tree   *ast.File
	calls  map[int]string // of mutated functions, by where they go in source
	added  string
}

func parse(t *testing.T, root, file string) *mutated {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	f := &mutated{source: string(source), files: token.NewFileSet(), calls: map[int]string{}}
	if f.tree, err = parser.ParseFile(f.files, file, source, parser.SkipObjectResolution); err != nil {
		t.Fatal(err)
	}
	return f
}

// add adds mutation n's function, and a call of it to the product's.
func (f *mutated) add(t *testing.T, n int, m mutation) {
	t.Helper()
	at := strings.Index(f.source, m.old)
	for _, d := range f.tree.Decls {
		fn, is := d.(*ast.FuncDecl)
		if !is || at < f.offset(fn.Pos()) || at >= f.offset(fn.End()) {
			continue
		}
		from, name, to := f.offset(fn.Pos()), f.offset(fn.Name.End()), f.offset(fn.End())
		suffix := fmt.Sprintf("Mutant%d", n)
		f.added += "\n" + f.source[from:name] + suffix + strings.Replace(f.source[name:to], m.old, m.now, 1) + "\n"
		f.calls[f.offset(fn.Body.Lbrace)+1] += fmt.Sprintf("\nif mutant == \"%d\" { %s }\n", n, callOf(fn, suffix))
		return
	}
	t.Fatalf("%s: %q is in no function of %s", m.rule, m.old, m.file)
}

func (f *mutated) offset(p token.Pos) int { return f.files.Position(p).Offset }

// callOf is the statement that does what fn does by the function of its name and a suffix.
func callOf(fn *ast.FuncDecl, suffix string) string {
	var args []string
	for _, field := range fn.Type.Params.List {
		for _, name := range field.Names {
			arg := name.Name
			if _, variadic := field.Type.(*ast.Ellipsis); variadic {
				arg += "..."
			}
			args = append(args, arg)
		}
	}
	call := fn.Name.Name + suffix + "(" + strings.Join(args, ", ") + ")"
	if fn.Recv != nil {
		call = fn.Recv.List[0].Names[0].Name + "." + call
	}
	if fn.Type.Results == nil {
		return call + "; return"
	}
	return "return " + call
}

func (f *mutated) text() string {
	var out strings.Builder
	for i, c := range f.source {
		out.WriteString(f.calls[i])
		out.WriteRune(c)
	}
	return out.String() + f.added
}
