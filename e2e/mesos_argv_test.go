package e2e

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

const marathonDir = "../examples/marathon"

// apps are the examples, with the first schema that knows what they use.
var apps = []struct{ file, since string }{
	{"weft.json", "v1.1.1"},
	{"web-parameters.json", "v1.1.1"},
	{"web-user.json", "v1.4.2"},
	{"web-networks.json", "v1.5.0"},
}

var marathonVersions = []string{"v1.1.1", "v1.4.2", "v1.5.0"}

func readExample(t *testing.T, file string) ([]byte, app) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(marathonDir, file))
	must(t, err)
	a, err := parseApp(text)
	must(t, err)
	return text, a
}

// schemaOf is Marathon's own schema of an app definition.
func schemaOf(t *testing.T, version string) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open(filepath.Join(marathonDir, "testdata", "AppDefinition-"+version+".json"))
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

// TestMarathonAppsAreValid from the version on that knows what they use, and are
// not before, so that the README says what is true.
func TestMarathonAppsAreValid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(marathonDir, "*.json"))
	must(t, err)
	if len(files) != len(apps) {
		t.Errorf("there are examples %q, this test knows %d", files, len(apps))
	}
	readme, err := os.ReadFile(filepath.Join(marathonDir, "README.md"))
	must(t, err)
	for _, version := range marathonVersions {
		schema := schemaOf(t, version)
		for _, a := range apps {
			text, _ := readExample(t, a.file)
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
			must(t, err)
			err = schema.Validate(doc)
			if want := slices.Index(marathonVersions, version) >= slices.Index(marathonVersions, a.since); (err == nil) != want {
				t.Errorf("%s by the schema of %s: valid %v, want %v\n%v", a.file, version, err == nil, want, err)
			}
			if !strings.Contains(string(readme), a.file) {
				t.Errorf("the README does not speak of %s", a.file)
			}
		}
	}
}

// exampleTask is a task of an example on a host.
func exampleTask(a app, host string, n int) task {
	flat := strings.ReplaceAll(strings.TrimPrefix(a.ID, "/"), "/", "_")
	uuid := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	id := flat + ".instance-" + uuid + "._app.1"
	return task{
		ID: id, UUID: uuid, Hostname: host, Version: "2026-01-01T00:00:00.000Z", Ports: []int{31000 + n, 31100 + n, 31200 + n},
		Sandbox: "/var/lib/mesos/slaves/S0/frameworks/F0/executors/" + id + "/runs/" + uuid,
	}
}

// lines are arguments, a line for each that begins with a dash.
func lines(argv []string) string {
	return strings.ReplaceAll(strings.Join(argv, " "), " -", "\n  -")
}

// TestMesosArgvOfTheExamples: the recorded command lines, for Mesos as it was
// released and for 1.12.
func TestMesosArgvOfTheExamples(t *testing.T) {
	var b strings.Builder
	for _, e := range apps[1:] {
		_, a := readExample(t, e.file)
		stock, err := mesosStock.dockerRun(a, exampleTask(a, "192.0.2.1", 1))
		must(t, err)
		newest, err := mesos112.dockerRun(a, exampleTask(a, "192.0.2.1", 1))
		must(t, err)
		fmt.Fprintf(&b, "# %s, Mesos 1.12\n%s\n\n", e.file, lines(newest))
		if slices.Equal(stock, newest) {
			fmt.Fprintf(&b, "# %s, Mesos up to 1.11: the same\n\n", e.file)
		} else {
			fmt.Fprintf(&b, "# %s, Mesos up to 1.11\n%s\n\n", e.file, lines(stock))
		}
	}
	const file = "testdata/mesos-argv.txt"
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("run go test -update if this is right (-recorded +now):\n%s", diff)
	}
}

// TestMarathonPortEnv has the cases of Marathon's TaskBuilderTest.
func TestMarathonPortEnv(t *testing.T) {
	host := func(n int) *int { return &n }
	for _, c := range []struct {
		story    string
		mappings []portMapping
		want     map[string]string
	}{
		{
			"PortsEnvWithOnlyMappings",
			[]portMapping{{ContainerPort: 8080, HostPort: host(1000), Name: "http"}, {ContainerPort: 8081, HostPort: host(1001), Name: "jabber"}},
			map[string]string{"PORT": "1000", "PORTS": "1000,1001", "PORT0": "1000", "PORT1": "1001", "PORT_8080": "1000", "PORT_8081": "1001", "PORT_HTTP": "1000", "PORT_JABBER": "1001"},
		},
		{
			"on a container network without host ports",
			[]portMapping{{ContainerPort: 8080, Name: "http"}},
			map[string]string{"PORTS": "", "PORT0": "8080", "PORT_8080": "8080", "PORT_HTTP": "8080"},
		},
		{
			"some with and some without",
			[]portMapping{{ContainerPort: 80}, {ContainerPort: 81, HostPort: host(31000), Name: "my-name"}},
			map[string]string{"PORT": "31000", "PORTS": "31000", "PORT0": "80", "PORT1": "31000", "PORT_80": "80", "PORT_81": "31000", "PORT_MY_NAME": "31000"},
		},
	} {
		if diff := cmp.Diff(c.want, portEnv(c.mappings)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.story, diff)
		}
	}
}

// TestMesosNetworkModes has the rules of both APIs of Marathon.
func TestMesosNetworkModes(t *testing.T) {
	for _, c := range []struct{ story, json, want string }{
		{"nothing said", `{}`, "host []"},
		{"host", `{"container":{"docker":{"network":"HOST","portMappings":[{"containerPort":80,"hostPort":0}]}}}`, "host []"},
		{"bridge, its host port is any", `{"container":{"docker":{"network":"BRIDGE","portMappings":[{"containerPort":80}]}}}`, "bridge [31000:80]"},
		{"bridge without mappings", `{"networks":[{"mode":"container/bridge"}]}`, "bridge [31000:31000]"},
		{"user", `{"ipAddress":{"networkName":"overlay"},"container":{"docker":{"network":"USER","portMappings":[{"containerPort":80}]}}}`, "overlay [:80]"},
		{"user without a name", `{"container":{"docker":{"network":"USER"}}}`, "container network name is not defined"},
		{"container", `{"networks":[{"mode":"container","name":"overlay"}],"container":{"portMappings":[{"containerPort":80,"hostPort":8080},{"hostPort":0}]}}`, "overlay [8080:80 31000:31000]"},
		{"both APIs", `{"networks":[{"mode":"host"}],"ipAddress":{}}`, "cannot mix deprecated and canonical network APIs"},
		{"two networks", `{"networks":[{"name":"a"},{"name":"b"}]}`, "only a single network can be defined in docker run"},
	} {
		a, err := parseApp([]byte(c.json))
		must(t, err)
		network, mappings, err := a.network()
		if err == nil {
			mappings, err = offered(mappings, []int{31000, 31001})
		}
		got := make([]string, 0, len(mappings))
		for _, m := range mappings {
			hostPort := ""
			if m.HostPort != nil {
				hostPort = fmt.Sprint(*m.HostPort)
			}
			got = append(got, fmt.Sprintf("%s:%d", hostPort, m.ContainerPort))
		}
		said := fmt.Sprintf("%s %s", network, got)
		if err != nil {
			said = err.Error()
		}
		if said != c.want {
			t.Errorf("%s: %q, want %q", c.story, said, c.want)
		}
	}
}
