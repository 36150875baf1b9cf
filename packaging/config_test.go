package packaging

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/settings"
)

var update = flag.Bool("update", false, "write config.json anew")

func TestConfigIsCurrent(t *testing.T) {
	want, err := Config()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../config.json" // at the top, beside Dockerfile
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Errorf("config.json is stale, run: make generate\n%s", diff)
	}
}

// TestConfigAsDockerReadsIt decodes config.json with the keys of Docker's own
// type, spelled as Docker's documentation spells them.
func TestConfigAsDockerReadsIt(t *testing.T) {
	raw, err := Config()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Entrypoint []string
		Interface  struct {
			Types  []string
			Socket string
		}
		Network struct{ Type string }
		PidHost bool
		Linux   struct{ Capabilities []string }
		Mounts  []struct {
			Source, Destination, Type string
			Options                   []string
		}
		Env []struct {
			Name     string
			Value    *string
			Settable []string
		}
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Entrypoint, []string{"/weft", "agent"}) || got.Interface.Socket != "weft.sock" ||
		got.Network.Type != "host" || !got.PidHost ||
		!slices.Equal(got.Interface.Types, []string{"docker.networkdriver/1.0", "docker.ipamdriver/1.0"}) {
		t.Errorf("config.json reads as %+v", got)
	}
	for _, m := range got.Mounts {
		if m.Type != "bind" || m.Destination != hostRoot+m.Source || !slices.Contains(m.Options, "rbind") {
			t.Errorf("mount %+v: the agent looks for the host's %s at %s", m, m.Source, hostRoot+m.Source)
		}
		if strings.HasSuffix(m.Source, ".sock") {
			t.Errorf("mount of %s goes stale when dockerd makes it anew", m.Source)
		}
	}
	var environ []string
	for _, v := range got.Env {
		if v.Value == nil {
			t.Fatalf("%s has no value", v.Name)
		}
		environ = append(environ, v.Name+"="+*v.Value)
	}
	s, err := settings.Load(settings.Source{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.HostPath(s.State); got != "/host/var/lib/weft" {
		t.Errorf("state in %s, which is not mounted", got)
	}
}
