package lab

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWriteImage(t *testing.T) {
	var one, two bytes.Buffer
	programs := map[string][]byte{"busybox": []byte("BB"), "probe": []byte("P")}
	for _, out := range []*bytes.Buffer{&one, &two} {
		if err := writeImage(out, programs, []string{"busybox", "sh", "httpd"}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("equal contents made different images")
	}
	seen := map[string]string{}
	for r := tar.NewReader(&one); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		seen[h.Name] = h.FileInfo().Mode().String() + " " + h.Linkname + string(b)
	}
	for name, want := range map[string]string{
		"bin/busybox": "-rwxr-xr-x BB", "bin/probe": "-rwxr-xr-x P", "bin/sh": "Lrwxrwxrwx busybox", "bin/httpd": "Lrwxrwxrwx busybox",
		"tmp/": "dtrwxrwxrwx ", "www/": "drwxr-xr-x ",
	} {
		if seen[name] != want {
			t.Errorf("%s is %q, want %q", name, seen[name], want)
		}
	}
}

func TestUntilDockerConnects(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{
		0:                       800 * time.Millisecond,
		400 * time.Millisecond:  400 * time.Millisecond,
		600 * time.Millisecond:  3200 * time.Millisecond,
		3600 * time.Millisecond: 3200 * time.Millisecond,
	} {
		if got := untilDockerConnects(age); got != want {
			t.Errorf("a socket that accepts %v after the start: %v, want %v", age, got, want)
		}
	}
}

func TestHostEnvLeaksNothing(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy")
	t.Setenv("DOCKER_HOST", "tcp://elsewhere")
	env := strings.Join(hostEnv("/opt/engine/bin", []string{"A=b"}), "\n")
	for _, bad := range []string{"proxy", "elsewhere"} {
		if strings.Contains(env, bad) {
			t.Errorf("%s is in the hosts' environment:\n%s", bad, env)
		}
	}
	if !strings.Contains(env, "PATH=/opt/engine/bin:/usr/sbin:") || !strings.HasSuffix(env, "A=b") {
		t.Errorf("the environment is\n%s", env)
	}
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if got := tail(file, 3); !strings.HasSuffix(got, "is empty") {
		t.Errorf("no log: %q", got)
	}
	if err := os.WriteFile(file, []byte("1\n2\n3\n4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := tail(file, 2); got != "3\n4" {
		t.Errorf("the last two lines are %q", got)
	}
	if got := tail(file, 9); got != "1\n2\n3\n4" {
		t.Errorf("more lines than there are: %q", got)
	}
}

func TestOwnDirRefusesOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := ownDir(dir); err == nil {
		t.Error("a directory that everybody can write was taken")
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := ownDir(link); err == nil {
		t.Error("a symbolic link was taken")
	}
}
