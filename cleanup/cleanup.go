// Package cleanup removes Weft from a host on which no agent runs: from the kernel and from the
// disk.
package cleanup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/consul"
	"github.com/weftnet/weft/datapath/hostnet"
	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/dns/takeover"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/member"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/store"
)

// Cleanup removes everything of Weft from this host (invariant 11).
type Cleanup struct {
	Socket string // the agent's own; it must not answer
	Docker string // Docker's socket, which need not exist
	State  string // directory
	DryRun bool   // only print what would be removed
	// Sandboxes is the directory of the network namespaces of Docker's containers; empty: Docker's
	// default.
	Sandboxes string
}

const defaultSandboxes = "/var/run/docker/netns"

// Run removes everything, and prints what. It changes nothing while an agent runs, or while
// Docker has networks of Weft's, whose containers would lose their network. A dry run says so
// too.
func (c Cleanup) Run(ctx context.Context, out io.Writer) error {
	obstacle := c.check(ctx)
	if obstacle != nil && !c.DryRun {
		return obstacle
	}
	k, err := linux.Open(linux.Config{})
	if err != nil {
		return err
	}
	gone, err := c.kernel(ctx, k)
	err = errors.Join(err, k.Close())
	rules, rulesErr := c.sandboxes()
	services, consulErr := c.services(ctx)
	files, fileErr := c.files()
	gone = slices.Concat(gone, rules, services, files)
	word := "removed"
	if c.DryRun {
		word = "would remove"
	}
	for _, g := range gone {
		_, _ = fmt.Fprintln(out, word, g) // a closed output gets no report
	}
	if len(gone) == 0 {
		_, _ = fmt.Fprintln(out, "nothing of Weft is left on this host")
	}
	if obstacle != nil {
		_, _ = fmt.Fprintf(out, "\nnot now: %v\n", obstacle)
	}
	return errors.Join(err, rulesErr, consulErr, fileErr)
}

// services deregisters what this host's agents registered in Consul, or lists it. Only what a
// Consul that was away did not hear is left.
func (c Cleanup) services(ctx context.Context) (gone []string, err error) {
	records, _ := store.Read(c.State, consul.Bucket) // a directory that cannot be read has no records
	return consul.Cleanup(ctx, records, c.State, c.DryRun)
}

// kernel removes the devices and the namespace, or lists them.
func (c Cleanup) kernel(ctx context.Context, k *linux.Kernel) (gone []string, err error) {
	if !c.DryRun {
		gone, err = k.Cleanup(ctx)
		own, ownErr := c.host(ctx)
		return append(gone, own...), errors.Join(err, ownErr)
	}
	s, err := k.Read(ctx)
	for _, n := range s.Networks {
		gone = append(gone, n.Bridge, n.VXLAN)
		for _, p := range n.Ports {
			gone = append(gone, p.Name)
		}
	}
	gone = append(gone, s.Stray...)
	gone = slices.DeleteFunc(gone, func(name string) bool { return name == "" }) // half of a network
	if _, statErr := os.Stat(linux.DefaultPin); statErr == nil {
		gone = append(gone, "network namespace "+linux.DefaultPin)
	}
	own, ownErr := c.host(ctx)
	return append(gone, own...), errors.Join(err, ownErr)
}

// host removes the rules of the host's own addresses on networks, or lists them.
func (c Cleanup) host(ctx context.Context) (gone []string, err error) {
	h, err := hostnet.Open(hostnet.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if !c.DryRun {
		return h.Cleanup(ctx)
	}
	there, err := h.Exists()
	if there {
		gone = append(gone, hostnet.What)
	}
	return gone, err
}

// sandboxes removes the rules that lead DNS queries to the agent from the network namespaces of
// containers, or lists them. Only a container that left its network while no agent ran has any.
func (c Cleanup) sandboxes() (gone []string, err error) {
	paths, err := filepath.Glob(filepath.Join(cmp.Or(c.Sandboxes, defaultSandboxes), "*"))
	for _, path := range paths {
		ns, openErr := netns.Open(path)
		if errors.Is(openErr, netns.ErrNotExist) {
			continue
		}
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		remove := takeover.Remove
		if c.DryRun {
			remove = takeover.Exists
		}
		was, removeErr := remove(ns)
		err = errors.Join(err, removeErr, ns.Close())
		if was {
			gone = append(gone, "DNS rules in the network namespace "+path)
		}
	}
	return gone, err
}

func (c Cleanup) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := api.At(c.Socket).Report(ctx); err == nil {
		return errors.New("the agent runs on this host: first remove Weft's networks (docker network rm), then disable the plugin (docker plugin ls, docker plugin disable)")
	}
	switch err := store.Check(c.State); {
	case errors.Is(err, store.ErrInUse): // of an agent that does not answer yet
		return err
	case errors.Is(err, store.ErrNewerFormat): // this release does not know everything that is to be removed
		return fmt.Errorf("%w, and use its weft cleanup; or remove the directory yourself first", err)
	}
	if _, err := os.Stat(c.Docker); errors.Is(err, fs.ErrNotExist) {
		return nil // no Docker here: it has no networks of ours
	}
	return c.unused(ctx)
}

// unused returns an error while Docker has a network of Weft's. It recognises one by the name
// of an enabled or disabled plugin, by the mark of a replica or, if the plugin was removed, by
// the driver's records in the state directory. A state directory that cannot be read has no
// records.
func (c Cleanup) unused(ctx context.Context) error {
	docker, err := dockerapi.Open(dockerapi.Config{Socket: c.Docker, Drivers: []string{"weft", "weftnet/weft:latest"}, Disabled: true})
	if err != nil {
		return err
	}
	defer func() { _ = docker.Close() }()
	networks, err := docker.Networks(ctx)
	if err != nil {
		return fmt.Errorf("docker does not say whether it has networks of Weft's: start it, or remove %s if it is gone for good: %w", c.Docker, err)
	}
	records, _ := store.Read(c.State, "attach")
	ours := attach.DockerNetworks(records)
	for _, n := range networks {
		if n.Ours || n.Replica != 0 || slices.Contains(ours, n.ID) {
			return fmt.Errorf("docker has network %s of Weft's: enable the plugin %s, docker network rm %s, and disable it again", n.Name, n.Driver, n.Name)
		}
	}
	return nil
}

// files removes the state directory, if it is one of ours, and the sockets.
func (c Cleanup) files() (gone []string, err error) {
	run := filepath.Dir(c.Socket)
	paths := []string{c.Socket, filepath.Join(run, member.IncarnationFile), filepath.Join(run, member.ClocksFile)}
	if _, err := os.Stat(filepath.Join(c.State, store.FileName)); err == nil {
		paths = append(paths, c.State)
	} else if entries, err := os.ReadDir(c.State); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s has no %s: it is no state directory of Weft's, so it stays; give the right one (--state)", c.State, store.FileName)
	}
	for _, p := range paths {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		gone = append(gone, p)
		if c.DryRun {
			continue
		}
		if err := os.RemoveAll(p); err != nil {
			return gone, fmt.Errorf("cleanup: %w", err)
		}
	}
	if !c.DryRun {
		_ = os.Remove(run) // if nothing else is in it
	}
	return gone, nil
}
