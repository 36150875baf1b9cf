package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// recordVersion is raised when an older lab command could misread the record.
const recordVersion = 1

// Record is all that a lab has started and made, as it is on disk. Tearing down goes by it
// alone.
type Record struct {
	Version int `json:"version"`
	// Boot is the kernel's boot id: processes of another boot are all gone.
	Boot   string     `json:"boot"`
	Config wireConfig `json:"config"`
	Switch Process    `json:"switch"`
	// Hosts by number.
	Hosts map[int]HostRecord `json:"hosts"`
	// Cgroups are the directories made, the lab's own in every hierarchy.
	Cgroups []string `json:"cgroups"`
	// Cuts are the one-way interruptions in force.
	Cuts []Arrow `json:"cuts"`
}

// HostRecord is what runs for one host.
type HostRecord struct {
	Holder     Process `json:"holder"` // process 1 of the host
	Containerd Process `json:"containerd"`
	Dockerd    Process `json:"dockerd"`
	// DockerArgs are the further arguments that dockerd runs with.
	DockerArgs []string `json:"docker_args,omitempty"`
}

// wireConfig is the part of Config that a later command needs.
type wireConfig struct {
	MTU       int      `json:"mtu"`
	Underlay4 string   `json:"underlay4"`
	Underlay6 string   `json:"underlay6"`
	Engine    Engine   `json:"engine"`
	Docker    []string `json:"docker_args,omitempty"`
	NoDocker  bool     `json:"no_docker,omitempty"`
}

// underlay is the part of a Config that every host of a lab shares for its lifetime.
func (w wireConfig) underlay() (Config, error) {
	v4, err4 := netip.ParsePrefix(w.Underlay4)
	v6, err6 := netip.ParsePrefix(w.Underlay6)
	if err := errors.Join(err4, err6); err != nil {
		return Config{}, fmt.Errorf("lab: the record is damaged: %w", err)
	}
	return Config{MTU: w.MTU, Underlay4: v4, Underlay6: v6}, nil
}

// notebook keeps a Record in a file that several processes may read and change.
type notebook struct{ dir string }

func (n notebook) path() string { return filepath.Join(n.dir, "record.json") }

// read returns the record; errNotUp when there is none.
func (n notebook) read() (Record, error) {
	b, err := os.ReadFile(n.path())
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("lab: %s: %w", n.dir, errNotUp)
	}
	if err != nil {
		return Record{}, fmt.Errorf("lab: record: %w", err)
	}
	return decodeRecord(b, bootID())
}

// decodeRecord reads a record. One of an earlier boot keeps its disks but has no processes.
func decodeRecord(b []byte, boot string) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("lab: the record is damaged: %w", err)
	}
	if r.Version != recordVersion {
		return Record{}, fmt.Errorf("lab: the record has format %d, this command knows %d; take the lab down with the command that made it", r.Version, recordVersion)
	}
	if r.Hosts == nil {
		r.Hosts = map[int]HostRecord{}
	}
	if r.Boot != boot {
		r.Boot, r.Switch, r.Cuts = boot, Process{}, nil
		for i := range r.Hosts {
			r.Hosts[i] = HostRecord{DockerArgs: r.Hosts[i].DockerArgs}
		}
	}
	return r, nil
}

// change applies fn to the record and has the outcome on disk before it returns.
func (n notebook) change(fn func(*Record)) error {
	unlock, err := n.lock("record.lock")
	if err != nil {
		return err
	}
	defer unlock()
	r, err := n.read()
	if errors.Is(err, errNotUp) {
		r, err = Record{Version: recordVersion, Boot: bootID(), Hosts: map[int]HostRecord{}}, nil
	}
	if err != nil {
		return err
	}
	fn(&r)
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("lab: record: %w", err)
	}
	tmp := n.path() + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("lab: record: %w", err)
	}
	if err := os.Rename(tmp, n.path()); err != nil {
		return fmt.Errorf("lab: record: %w", err)
	}
	return nil
}

// changeHost applies fn to one host's part of the record.
func (n notebook) changeHost(i int, fn func(*HostRecord)) error {
	return n.change(func(r *Record) {
		h := r.Hosts[i]
		fn(&h)
		r.Hosts[i] = h
	})
}

// lock takes a lock among all processes that use the state directory.
func (n notebook) lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(n.dir, name), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: lock the state directory: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lab: lock the state directory %s: %w", n.dir, err)
	}
	return func() { f.Close() }, nil
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
