package main_test

import (
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestAReleaseIsReproducible: built again elsewhere, by somebody whose files nobody else may
// read, it has the same bytes; and what is in it is what a user installs. Only this
// machine's architecture is built, as compiling everything for another one takes a minute.
func TestAReleaseIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program twice")
	}
	here, elsewhere := t.TempDir(), t.TempDir()
	const copied = `tar --exclude=./build --exclude=./.git -c . | tar -x -C "$1"`
	sh(t, ".", copied, elsewhere)
	const release = `make --no-print-directory release VERSION=1.2.3-test ARCHES="$2" RELEASE="$1"`
	first, second := filepath.Join(here, "release"), filepath.Join(elsewhere, "build", "release")
	sh(t, ".", release, first, runtime.GOARCH)
	sh(t, elsewhere, "umask 077; "+release, second, runtime.GOARCH)

	name := "1.2.3-test-linux-" + runtime.GOARCH
	want := []string{"SHA256SUMS", "weft-" + name, "weft-plugin-" + name + ".tar.gz"}
	if got := names(t, first); !slices.Equal(got, want) {
		t.Errorf("a release has %q, want %q", got, want)
	}
	sums := read(t, filepath.Join(first, "SHA256SUMS"))
	if again := read(t, filepath.Join(second, "SHA256SUMS")); sums != again || strings.Count(sums, "\n") != 2 {
		t.Errorf("built twice:\n%s%s", sums, again)
	}
	sh(t, first, "sha256sum -c SHA256SUMS")

	binary := filepath.Join(first, "weft-"+name)
	if out := sh(t, ".", `"$1" --version`, binary); out != "weft version 1.2.3-test\n" {
		t.Errorf("it is %q", out)
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Section(".interp") != nil || f.Section(".dynamic") != nil {
		t.Error("the binary is not static")
	}
	sh(t, here, `tar -xzf "$1"`, filepath.Join(first, "weft-plugin-"+name+".tar.gz"))
	for inside, outside := range map[string]string{"config.json": "config.json", "rootfs/weft": binary} {
		if read(t, filepath.Join(here, "weft-plugin", inside)) != read(t, outside) {
			t.Errorf("%s of the plugin is not %s", inside, outside)
		}
	}
	if got := names(t, filepath.Join(here, "weft-plugin")); !slices.Equal(got, []string{"config.json", "rootfs", "weft"}) {
		t.Errorf("the plugin has %q", got)
	}
}

// TestAReleaseIsForBothArchitectures unless somebody asks for others.
func TestAReleaseIsForBothArchitectures(t *testing.T) {
	if out := sh(t, ".", `make -n release VERSION=1`); !strings.Contains(out, "for arch in amd64 arm64;") || !strings.Contains(out, "build/release/1/") {
		t.Errorf("make release does\n%s", out)
	}
}

// sh runs a line of the shell in a directory, and answers what it printed.
func sh(t *testing.T, dir, line string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-euo", "pipefail", "-c", line, "bash"}, args...)...)
	cmd.Dir = dir
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", line, err, out, &failed)
	}
	return string(out)
}

// names are those of all files below a directory, without where they are.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			out = append(out, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
