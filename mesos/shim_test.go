package mesos_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/mesos"
	"github.com/weftnet/weft/mesos/mesostest"
)

// An app of each kind, its image and arguments made to look like options.
const tail = `"image":"nginx","privileged":true`

var apps = []struct {
	name, json string
	refused    string // what Docker's command says to the line of Mesos up to 1.11; empty: nothing

	// What the shim makes of --net MODE and --net=PARAMETER, by generation; plain, and with a default network.
	mended, moved [2]string
}{
	{
		name:    "parameter beside bridge",
		json:    `{"cmd":"run --net bridge","container":{"docker":{` + tail + `,"network":"BRIDGE","portMappings":[{"containerPort":80}],"parameters":[{"key":"hostname","value":"h"},{"key":"net","value":"overlay"}]}}}`,
		refused: "conflicting options",
		mended:  [2]string{"--net=overlay", "--net overlay"}, moved: [2]string{"--net=overlay", "--net overlay"},
	},
	{
		name:    "parameter beside nothing said, which is host",
		json:    `{"args":["--net","bridge"],"container":{"docker":{` + tail + `,"parameters":[{"key":"network","value":"overlay"},{"key":"ip","value":"10.32.0.9"}]}}}`,
		refused: "conflicting options",
		mended:  [2]string{"--network=overlay", "--net overlay"}, moved: [2]string{"--network=overlay", "--net overlay"},
	},
	{
		name:    "parameter beside the same network",
		json:    `{"networks":[{"name":"overlay"}],"container":{"docker":{` + tail + `,"parameters":[{"key":"net","value":"overlay"}]}}}`,
		refused: "is specified multiple times",
		mended:  [2]string{"--net=overlay", "--net overlay"}, moved: [2]string{"--net=overlay", "--net overlay"},
	},
	{
		name:   "parameter for a second network, which Docker knows from 25 on",
		json:   `{"networks":[{"name":"overlay"}],"container":{"docker":{` + tail + `,"parameters":[{"key":"net","value":"other"}]}}}`,
		mended: [2]string{"--net overlay --net=other", "--net other"}, moved: [2]string{"--net overlay --net=other", "--net other"},
	},
	{
		name:   "parameter for Docker's own bridge",
		json:   `{"networks":[{"mode":"container/bridge"}],"container":{"docker":{` + tail + `,"parameters":[{"key":"net","value":"default"}]}}}`,
		mended: [2]string{"--net=default", "--net default"}, moved: [2]string{"--net=default", "--net default"},
	},
	{
		name:   "bridge",
		json:   `{"networks":[{"mode":"container/bridge"}],"env":{"A":"--net=overlay","B":"--net"},"container":{"docker":{` + tail + `}}}`,
		mended: [2]string{"--net bridge", "--net bridge"}, moved: [2]string{"--net weave", "--net weave"},
	},
	{
		name:   "host",
		json:   `{"cmd":"x","container":{"docker":{` + tail + `}}}`,
		mended: [2]string{"--net host", "--net host"}, moved: [2]string{"--net host", "--net host"},
	},
	{
		name:   "a network of its own",
		json:   `{"networks":[{"name":"overlay"}],"container":{"portMappings":[{"containerPort":80,"hostPort":0}],"docker":{` + tail + `}}}`,
		mended: [2]string{"--net overlay", "--net overlay"}, moved: [2]string{"--net overlay", "--net overlay"},
	},
}

// line is what a generation of Mesos makes of an app.
func line(t *testing.T, generation int, json string) []string {
	t.Helper()
	a, err := mesostest.ParseApp([]byte(json))
	if err != nil {
		t.Fatal(err)
	}
	offer, container := mesostest.Instance(a, "agent1", 1)
	task, err := mesostest.Marathon{}.Task(a, offer)
	if err != nil {
		t.Fatal(err)
	}
	argv, err := []mesostest.Mesos{mesostest.Mesos111, mesostest.Mesos112}[generation].DockerRun(task, container)
	if err != nil {
		t.Fatal(err)
	}
	return argv[1:] // without docker
}

// nets takes the options that name a network out of a command line, and says which they were.
func nets(args []string) (others []string, networks string) {
	var found []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "nginx":
			return append(others, args[i:]...), strings.Join(found, " ")
		case args[i] == "-e":
			others = append(others, args[i:i+2]...)
			i++
		case args[i] == "--net":
			found = append(found, args[i]+" "+args[i+1])
			i++
		case strings.HasPrefix(args[i], "--net="), strings.HasPrefix(args[i], "--network="):
			found = append(found, args[i])
		default:
			others = append(others, args[i])
		}
	}
	return others, "no image"
}

func TestMend(t *testing.T) {
	for _, a := range apps {
		for generation := range 2 {
			args := line(t, generation, a.json)
			before := slices.Clone(args)
			others, _ := nets(args)
			for _, c := range []struct {
				shim mesos.Shim
				want string
			}{{mesos.Shim{}, a.mended[generation]}, {mesos.Shim{DefaultNetwork: "weave"}, a.moved[generation]}} {
				rest, got := nets(c.shim.Mend(args))
				if got != c.want {
					t.Errorf("%s, generation %d, %+v: %s, want %s", a.name, generation, c.shim, got, c.want)
				}
				if diff := cmp.Diff(others, rest); diff != "" {
					t.Errorf("%s, generation %d: more than the networks has changed:\n%s", a.name, generation, diff)
				}
			}
			if !slices.Equal(args, before) {
				t.Errorf("%s: the arguments that were given have changed", a.name)
			}
		}
	}
}

// TestMendWholeLines of several releases of Mesos.
func TestMendWholeLines(t *testing.T) {
	for _, c := range []struct{ mesos, args, want string }{
		{
			"0.20, which has no parameters",
			"run -d -c 102 -m 67108864 -e MESOS_SANDBOX=/mnt/mesos/sandbox -v /s:/mnt/mesos/sandbox --net bridge -p 31000:80/tcp --name mesos-1 nginx /bin/sh -c x",
			"run -d -c 102 -m 67108864 -e MESOS_SANDBOX=/mnt/mesos/sandbox -v /s:/mnt/mesos/sandbox --net weave -p 31000:80/tcp --name mesos-1 nginx /bin/sh -c x",
		},
		{
			"0.23",
			"run --privileged -c 102 -m 67108864 -e A=b -v /s:/mnt/mesos/sandbox --net host --entrypoint /bin/sh --name mesos-1.2 --net=overlay --hostname=redis.weave.local redis -c x",
			"run --privileged -c 102 -m 67108864 -e A=b -v /s:/mnt/mesos/sandbox --entrypoint /bin/sh --name mesos-1.2 --net=overlay --hostname=redis.weave.local redis -c x",
		},
		{
			"1.11",
			"-H unix:///d.sock run --cpu-shares 102 --cpu-quota 1000 --memory-reservation 33554432 --memory 67108864 --oom-score-adj 999 -e A=b -v /s:/c --volume-driver=rexray " +
				"--net bridge --dns 192.0.2.1 --dns-search example.org --dns-opt ndots:1 --hostname h -p 31000:80/tcp --device=/dev/a:/dev/a:rwm --name mesos-1 --network=overlay redis",
			"-H unix:///d.sock run --cpu-shares 102 --cpu-quota 1000 --memory-reservation 33554432 --memory 67108864 --oom-score-adj 999 -e A=b -v /s:/c --volume-driver=rexray " +
				"--dns 192.0.2.1 --dns-search example.org --dns-opt ndots:1 --hostname h -p 31000:80/tcp --device=/dev/a:/dev/a:rwm --name mesos-1 --network=overlay redis",
		},
	} {
		got := strings.Join(mesos.Shim{DefaultNetwork: "weave"}.Mend(strings.Fields(c.args)), " ")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.mesos, diff)
		}
	}
}

// TestMendLeavesAlone what else Mesos calls, and what Mesos does not write.
func TestMendLeavesAlone(t *testing.T) {
	for _, args := range []string{
		"", "-H", "-H unix:///d.sock", "run", "-H unix:///d.sock run", "run --net", "run --net bridge", "run --net bridge --net=overlay",
		"-H unix:///d.sock --version", "-H unix:///d.sock ps -a", "-H unix:///d.sock inspect mesos-1", "-H unix:///d.sock stop -t 0 mesos-1",
		"-H unix:///d.sock rm -f -v mesos-1", "-H unix:///d.sock kill --signal=9 mesos-1", "-H unix:///d.sock pull nginx", "-H unix:///d.sock wait mesos-1",
		"--config /c run --net bridge --net=overlay nginx", // not Mesos
		"create --net bridge --net=overlay nginx",
		"run -it --net bridge --net=overlay nginx",
		"run --net bridge --net overlay nginx",
		"run --net bridge -- nginx --net=overlay",
		"run --net=bridge nginx", // a parameter of somebody's
		"run nginx --net bridge --net=overlay",
	} {
		words := strings.Fields(args)
		if got := (mesos.Shim{DefaultNetwork: "weave"}).Mend(words); !slices.Equal(got, words) {
			t.Errorf("%s has become %s", args, strings.Join(got, " "))
		}
	}
}

func TestValidate(t *testing.T) {
	for name, good := range map[string]bool{
		"": true, "overlay": true, "my-net_1": true,
		"host": false, "bridge": false, "none": false, "default": false, "over.lay": false, "container:web": false, "name=overlay": false, "a,b": false, "a b": false,
	} {
		if err := (mesos.Shim{DefaultNetwork: name}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// FuzzMend never takes away more than Mesos' own --net and its mode, and adds nothing but the default network.
func FuzzMend(f *testing.F) {
	for _, a := range apps {
		f.Add("run --net bridge " + a.mended[0] + " nginx")
	}
	f.Fuzz(func(t *testing.T, words string) {
		args := strings.Fields(words)
		got := mesos.Shim{DefaultNetwork: "weave"}.Mend(args)
		i := 0
		for i < len(got) && got[i] == args[i] {
			i++
		}
		switch {
		case i == len(args):
		case len(got) == len(args) && args[i] == "bridge" && args[i-1] == "--net" && got[i] == "weave" && slices.Equal(args[i+1:], got[i+1:]):
		case len(got) == len(args)-2 && slices.Contains(args, "--net") && slices.ContainsFunc(got, isParameter):
		default:
			t.Errorf("%q has become %q", args, got)
		}
	})
}

func isParameter(word string) bool {
	return strings.HasPrefix(word, "--net=") || strings.HasPrefix(word, "--network=")
}

// TestDockersOwnCommands: Docker's commands of this machine and of the engines that scripts/engine.sh has fetched
// read every line that the shim makes, and refuse those of Mesos that it is for.
func TestDockersOwnCommands(t *testing.T) {
	var commands []string
	if !testing.Short() {
		commands, _ = filepath.Glob("../build/engine/*/usr/bin/docker")
	}
	if _, err := os.Stat("/usr/bin/docker"); err == nil {
		commands = append(commands, "/usr/bin/docker")
	}
	if len(commands) == 0 {
		t.Skip("there is no docker command")
	}
	const accepted = "Cannot connect to the Docker daemon"
	lines := map[string][]string{} // by what must be said to them; each once, a start takes long
	for _, a := range apps {
		args := line(t, 0, a.json)
		args[1] = "unix:///nonexistent/docker.sock"
		for _, shim := range []mesos.Shim{{}, {DefaultNetwork: "weave"}} {
			if mended := strings.Join(shim.Mend(args), "\x00"); !slices.Contains(lines[accepted], mended) {
				lines[accepted] = append(lines[accepted], mended)
			}
		}
		if a.refused != "" {
			lines[a.refused] = append(lines[a.refused], strings.Join(args, "\x00"))
		}
	}
	for _, command := range commands {
		for want, all := range lines {
			for _, args := range all {
				if said := run(t, command, strings.Split(args, "\x00")); !strings.Contains(said, want) {
					t.Errorf("%s %q: %s, want %q", command, args, said, want)
				}
			}
		}
	}
}

// run runs a docker command that finds no daemon, and answers what it says.
func run(t *testing.T, command string, args []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, command, args...).CombinedOutput()
	if err == nil {
		t.Errorf("%s %s has worked", command, strings.Join(args, " "))
	}
	return string(out)
}
