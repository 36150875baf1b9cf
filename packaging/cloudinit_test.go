package packaging

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const userData = "../examples/cloud-init/user-data"

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// indented is a text as it lies in the user-data.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			line = "      " + line
		}
		b.WriteString(line)
	}
	return b.String()
}

// TestUserDataHasTheFilesOfSystemd, word by word.
func TestUserDataHasTheFilesOfSystemd(t *testing.T) {
	text := readText(t, userData)
	for _, file := range []string{"weft.env", "weft-install", "weft.service"} {
		if !strings.Contains(text, "    content: |\n"+indented(readText(t, "../examples/systemd/"+file))+"  - path:") {
			t.Errorf("it has another %s than examples/systemd", file)
		}
	}
}

// TestUserDataIsCloudConfig by cloud-init's own schema.
func TestUserDataIsCloudConfig(t *testing.T) {
	if _, err := exec.LookPath("cloud-init"); err != nil {
		t.Skip("there is no cloud-init (Debian's package of that name)")
	}
	if out, err := exec.CommandContext(t.Context(), "cloud-init", "schema", "--config-file", userData).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUserDataFetchesARelease from a web server as often as the unit starts until it has one, and installs nothing that
// has another checksum.
func TestUserDataFetchesARelease(t *testing.T) {
	for _, command := range []string{"curl", "dpkg"} {
		if _, err := exec.LookPath(command); err != nil {
			t.Skip("there is no " + command)
		}
	}
	_, script, found := strings.Cut(readText(t, userData), "/usr/local/lib/weft/fetch\n    permissions: \"0755\"\n    content: |\n")
	script, dropIn, _ := strings.Cut(script, "  - path: /etc/systemd/system/weft.service.d/")
	_, before, unit := strings.Cut(dropIn, "\n      [Service]\n      ExecStartPre=/bin/sh -c \"")
	before, _, _ = strings.Cut(before, "\"\n")
	if !found || !unit {
		t.Fatal("there is no script that fetches a release, or the unit does not run it")
	}
	dir, release := t.TempDir(), t.TempDir()
	script = strings.ReplaceAll(strings.ReplaceAll(script, "\n      ", "\n")[6:], "/usr/local", dir)
	before = strings.ReplaceAll(before, "/usr/local", dir)
	for _, d := range []string{"lib/weft", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lib/weft/fetch"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	name := "0.1.0-linux-" + runtime.GOARCH
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", `cd "$1"; mkdir weft-plugin; echo {} >weft-plugin/config.json; tar -czf "weft-plugin-$2.tar.gz" weft-plugin; echo binary >"weft-$2"`, "sh", release, name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(release)))
	defer s.Close()
	var sums strings.Builder
	for _, file := range []string{"weft-" + name, "weft-plugin-" + name + ".tar.gz"} {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256([]byte(readText(t, filepath.Join(release, file)))), file)
	}
	for _, c := range []struct {
		sums string
		good bool
	}{{strings.Repeat("0", 64) + "  weft-" + name + "\n", false}, {sums.String(), true}, {"it is not fetched again", true}} {
		if err := os.WriteFile(filepath.Join(release, "SHA256SUMS"), []byte(c.sums), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(before, "http://files.example/weft", s.URL)).CombinedOutput()
		_, missing := os.Stat(filepath.Join(dir, "bin/weft"))
		if (err == nil) != c.good || (missing == nil) != c.good {
			t.Errorf("with checksums %q: %v, %v\n%s", c.sums, err, missing, out)
		}
	}
	if readText(t, filepath.Join(dir, "lib/weft/weft-plugin/config.json")) != "{}\n" {
		t.Error("the plugin is another one")
	}
}
