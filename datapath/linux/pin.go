package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/weftnet/weft/netns"
)

// find opens the overlay namespace if its pin is visible.
func (k *Kernel) find() error {
	ns, err := k.openPin()
	if err != nil {
		return err
	}
	return k.adopt(ns)
}

func (k *Kernel) adopt(ns *netns.Namespace) error {
	s, err := openSpace(ns)
	if err != nil {
		return fmt.Errorf("linux: the overlay namespace: %w", err)
	}
	reader, err := s.again()
	if err != nil {
		return errors.Join(fmt.Errorf("linux: the overlay namespace: %w", err), s.close())
	}
	k.overlay, k.reader, k.notes = s, reader, nil
	k.asking.Store(s.ns)
	if err := quiet(ns, k.cfg.ProcSys); err != nil {
		k.notes = append(k.notes, fmt.Sprintf("linux: %v (IPv6 router advertisements of containers may give the bridge an address that nobody uses)", err))
	}
	return nil
}

// openPin tries PinView and then the host's own path: the mount reaches a managed plugin only
// if the host's /run is shared.
func (k *Kernel) openPin() (*netns.Namespace, error) {
	ns, err := netns.Open(k.cfg.PinView)
	if err == nil {
		return ns, nil
	}
	pid, pidErr := k.cfg.HostPID()
	if pidErr != nil || pid == 0 {
		return nil, err
	}
	return netns.Open(filepath.Join("/proc", strconv.Itoa(pid), "root", k.cfg.Pin))
}

// ensure makes sure that there is an overlay namespace and that it is pinned.
func (k *Kernel) ensure() error {
	if k.overlay == nil {
		if err := k.find(); err == nil || !errors.Is(err, netns.ErrNotExist) {
			return err
		}
	} else if !k.unpinned() {
		return nil
	}
	pid, err := k.cfg.HostPID()
	if err != nil {
		if k.overlay != nil {
			return nil // it works without; the next call tries again
		}
		return fmt.Errorf("linux: cannot make the overlay namespace before Docker has called: %w", err)
	}
	ns, err := k.pin(pid)
	if err != nil {
		return fmt.Errorf("linux: the overlay namespace: %w", err)
	}
	if k.overlay != nil {
		return ns.Close() // the same one
	}
	return k.adopt(ns)
}

// unpinned reports whether the pin of the open namespace is certainly gone. Somebody unmounted
// it, and the namespace would end with this process.
func (k *Kernel) unpinned() bool {
	ns, err := k.openPin()
	if err != nil {
		return errors.Is(err, netns.ErrNotExist)
	}
	_ = ns.Close() // read-only
	return false
}

// pin pins the open namespace, or a new one. If the host has one pinned there already, that one
// is used.
func (k *Kernel) pin(pid int) (*netns.Namespace, error) {
	if k.overlay != nil {
		return netns.Pin(pid, k.cfg.Pin, k.overlay.ns)
	}
	ns, err := netns.New()
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }() // it is pinned, or not used
	return netns.Pin(pid, k.cfg.Pin, ns)
}

// unpin removes the pin. It reports whether there was one.
func (k *Kernel) unpin() (was bool, err error) {
	pid, err := k.cfg.HostPID()
	if err == nil {
		was, err = netns.Unpin(pid, k.cfg.Pin)
	}
	if err != nil {
		return was, fmt.Errorf("linux: cannot remove the pin of the overlay namespace: %w", err)
	}
	return was, nil
}

// quiet keeps new devices of the namespace from handling router advertisements. They get no
// link-local address either, but that is a netlink attribute.
func quiet(ns *netns.Namespace, procSys string) error {
	return ns.Do(func() error {
		for _, name := range []string{"accept_ra", "autoconf"} {
			path := filepath.Join(procSys, "net/ipv6/conf/default", name)
			if b, err := os.ReadFile(path); err == nil && string(b) == "0\n" {
				continue
			}
			err := os.WriteFile(path, []byte("0\n"), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a host without IPv6
				return err
			}
		}
		return nil
	})
}
