package mesostest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write testdata anew")

const examples = "../../examples/marathon"

// apps are the examples, with the first schema that knows what they use.
var apps = []struct{ file, since string }{
	{"weft-everywhere.json", "v1.1.1"},
	{"web-parameters.json", "v1.1.1"},
	{"web-user.json", "v1.4.2"},
	{"web-networks.json", "v1.5.0"},
	{"nodejs-rest-api.json", "v1.5.0"},
}

var versions = []string{"v1.1.1", "v1.4.2", "v1.5.0"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readExample(t *testing.T, file string) ([]byte, App) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, file))
	must(t, err)
	a, err := ParseApp(text)
	must(t, err)
	return text, a
}

// schemaOf is Marathon's own schema of an app definition.
func schemaOf(t *testing.T, version string) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open(filepath.Join(examples, "testdata", "AppDefinition-"+version+".json"))
	must(t, err)
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	must(t, err)
	if m, ok := doc.(map[string]any); ok {
		delete(m, "$schema") // it names no draft
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4)
	must(t, c.AddResource(version, doc))
	schema, err := c.Compile(version)
	must(t, err)
	return schema
}

// TestExamplesAreValid from the version on that knows what they use, and are
// not before, so that the README says what is true.
func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "*.json"))
	must(t, err)
	if len(files) != len(apps) {
		t.Errorf("there are examples %q, this test knows %d", files, len(apps))
	}
	readme, err := os.ReadFile(filepath.Join(examples, "README.md"))
	must(t, err)
	for _, version := range versions {
		schema := schemaOf(t, version)
		for _, a := range apps {
			text, _ := readExample(t, a.file)
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
			must(t, err)
			err = schema.Validate(doc)
			if want := slices.Index(versions, version) >= slices.Index(versions, a.since); (err == nil) != want {
				t.Errorf("%s by the schema of %s: valid %v, want %v\n%v", a.file, version, err == nil, want, err)
			}
			if !strings.Contains(string(readme), a.file) {
				t.Errorf("the README does not speak of %s", a.file)
			}
		}
	}
}

// lines are arguments, a line for each that begins with a dash.
func lines(argv []string) string {
	return strings.ReplaceAll(strings.Join(argv, " "), " -", "\n  -")
}

// TestArgvOfTheExamples: the recorded command lines, of both generations of Mesos.
func TestArgvOfTheExamples(t *testing.T) {
	var b strings.Builder
	for _, e := range apps[1:] {
		_, a := readExample(t, e.file)
		offer, container := Instance(a, "192.0.2.1", 1)
		task, err := Marathon{}.Task(a, offer)
		must(t, err)
		older, err := Mesos111.DockerRun(task, container)
		must(t, err)
		newest, err := Mesos112.DockerRun(task, container)
		must(t, err)
		fmt.Fprintf(&b, "# %s, Mesos 1.12\n%s\n\n", e.file, lines(newest))
		if slices.Equal(older, newest) {
			fmt.Fprintf(&b, "# %s, Mesos up to 1.11: the same\n\n", e.file)
		} else {
			fmt.Fprintf(&b, "# %s, Mesos up to 1.11\n%s\n\n", e.file, lines(older))
		}
	}
	const file = "testdata/argv.txt"
	if *update {
		must(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("run go test -update if this is right (-recorded +now):\n%s", diff)
	}
}
