package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Images that every host has.
const (
	// BusyBoxImage has busybox, all its commands, and the probe (lab/cmd/probe). It runs a
	// shell.
	BusyBoxImage = "weft/busybox:latest"
	// WebImage is BusyBoxImage serving a page on port 80 that has the container's host name.
	WebImage = "weft/web:latest"
)

// webCommand writes the page and serves it. A shell waits for the signal to stop: process 1
// of a container ignores it otherwise, and every stop would take Docker's ten seconds.
const webCommand = `CMD ["sh", "-c", "hostname >/www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait"]`

// loadImages imports the lab's images into the host's Docker, those that are not there.
func (h *Host) loadImages(ctx context.Context) error {
	file := filepath.Join(h.lab.cfg.Dir, "image.tar")
	for name, command := range map[string]string{BusyBoxImage: `CMD ["sh"]`, WebImage: webCommand} {
		if _, err := h.Docker(ctx, "image", "inspect", name); err == nil {
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("lab: image: %w", err)
		}
		err = h.ImportImage(ctx, name, f, "ENV PATH=/bin", command)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// ImportImage makes an image out of a tar stream of its root directory; changes are lines
// of a Dockerfile ("CMD …").
func (h *Host) ImportImage(ctx context.Context, name string, tar io.Reader, changes ...string) error {
	args := []string{"import"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	c := h.DockerCommand(append(args, "-", name)...)
	c.Stdin = tar
	_, err := h.output(ctx, c)
	return err
}

// makeImage writes the root directory of the lab's images as a tar file, once.
func (l *Lab) makeImage(ctx context.Context) error {
	return makeImage(ctx, filepath.Join(l.cfg.Dir, "image.tar"), l.tools.busybox, l.cfg.Probe)
}

// MakeImage writes the root directory of BusyBoxImage as a tar file, for a Docker that is on no
// host of a lab.
func MakeImage(ctx context.Context, file string) error {
	busybox, err := findTool(searchPath, "busybox")
	if err == nil {
		err = requireStatic(busybox)
	}
	if err != nil {
		return fmt.Errorf("lab: image: %w", err)
	}
	return makeImage(ctx, file, busybox, "")
}

// makeImage builds the probe beside the file if it is given none.
func makeImage(ctx context.Context, file, busybox, probe string) error {
	if probe == "" {
		probe = filepath.Join(filepath.Dir(file), "probe")
		if err := buildProbe(ctx, probe); err != nil {
			return err
		}
	}
	list, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("lab: ask %s for its commands: %w", busybox, err)
	}
	programs := map[string][]byte{}
	for name, path := range map[string]string{"busybox": busybox, "probe": probe} {
		if programs[name], err = os.ReadFile(path); err != nil {
			return fmt.Errorf("lab: image: %w", err)
		}
	}
	var out bytes.Buffer
	if err := writeImage(&out, programs, strings.Fields(string(list))); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("lab: image: %w", err)
	}
	return os.Rename(file+".new", file)
}

// buildProbe builds the probe program from the module of the working directory.
func buildProbe(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, "github.com/weftnet/weft/lab/cmd/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: build the probe (run inside the weft repository, or name a built one): %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// writeImage writes a root directory with programs in /bin, busybox's commands as links to
// it, an empty /www and a world-writable /tmp. Equal contents make equal bytes.
func writeImage(w io.Writer, programs map[string][]byte, commands []string) error {
	t := tar.NewWriter(w)
	var entries []tar.Header
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "root", "www"} {
		entries = append(entries, tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755})
	}
	entries = append(entries, tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777})
	for _, command := range commands {
		if command != "busybox" {
			entries = append(entries, tar.Header{Name: "bin/" + command, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777})
		}
	}
	files := map[string][]byte{
		"etc/passwd": []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		"etc/group":  []byte("root:x:0:\nnogroup:x:65534:\n"),
	}
	for name, program := range programs {
		files["bin/"+name] = program
	}
	for name, content := range files {
		mode := int64(0o644)
		if strings.HasPrefix(name, "bin/") {
			mode = 0o755
		}
		entries = append(entries, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content))})
	}
	slices.SortFunc(entries, func(a, b tar.Header) int { return strings.Compare(a.Name, b.Name) })
	for _, entry := range entries {
		if err := t.WriteHeader(&entry); err != nil {
			return fmt.Errorf("lab: image: %w", err)
		}
		if _, err := t.Write(files[entry.Name]); err != nil {
			return fmt.Errorf("lab: image: %w", err)
		}
	}
	return t.Close()
}
