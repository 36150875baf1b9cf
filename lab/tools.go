package lab

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// searchPath is where programs are looked for and the PATH inside hosts: a caller's own
// PATH often lacks the sbin directories.
const searchPath = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"

// debianPackage names the package that brings a program the lab starts.
var debianPackage = map[string]string{
	"dockerd":         "docker.io",
	"containerd":      "containerd",
	"docker":          "docker.io (from Debian 13 on docker-cli)",
	"iptables":        "iptables",
	"busybox":         "busybox-static",
	"nft":             "nftables",
	"nsenter":         "util-linux",
	"unshare":         "util-linux",
	"mount":           "mount",
	"docker-registry": "docker-registry",
}

// tools are the paths of the programs that a lab starts.
type tools struct {
	dockerd, containerd, docker, busybox, nft string
}

// findTools finds every program the lab needs, or says which packages bring those that
// are missing.
func findTools(c Config) (tools, error) {
	var missing []error
	find := func(given, name string) string {
		if given != "" {
			return given
		}
		path, err := findTool(searchPath, name)
		if err != nil {
			missing = append(missing, err)
		}
		return path
	}
	t := tools{nft: find("", "nft")}
	find("", "unshare")
	find("", "nsenter")
	find("", "mount")
	if !c.NoDocker {
		t.dockerd = find(c.Engine.Dockerd, "dockerd")
		t.containerd = find(c.Engine.Containerd, "containerd")
		t.docker = find(c.Engine.CLI, "docker")
		t.busybox = find("", "busybox")
		find("", "iptables")
	}
	if t.busybox != "" {
		missing = append(missing, requireStatic(t.busybox))
	}
	if err := errors.Join(missing...); err != nil {
		return tools{}, fmt.Errorf("lab: programs are missing on this machine:\n%w", err)
	}
	return t, nil
}

// findTool finds a program in a PATH; the error names the Debian package that has it.
func findTool(path, name string) (string, error) {
	for dir := range strings.SplitSeq(path, ":") {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	if pkg, ok := debianPackage[name]; ok {
		return "", fmt.Errorf("%s is not installed: apt-get install %s", name, pkg)
	}
	return "", fmt.Errorf("%s is not in %s", name, path)
}

// requireStatic refuses a program that needs a dynamic loader: images have none.
func requireStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is not a program: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked, images need a static one: apt-get install busybox-static", path)
		}
	}
	return nil
}

// Missing says why a lab of this Config cannot be brought up on this machine: no root, or
// programs that are not installed, each with its Debian package. It is nil when it can.
func Missing(c Config) error {
	if os.Geteuid() != 0 {
		return errors.New("lab: namespaces and Docker Engines need root; run this as root")
	}
	_, err := findTools(c)
	return err
}
