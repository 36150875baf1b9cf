package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/turn"
)

// downWithin is how long the kernel may take to clear away what was killed.
const downWithin = 30 * time.Second

// Down takes the lab down by its record: processes, namespaces with all in them, cgroups
// and the state directory. It says what could not be removed. A lab that is down already
// is no error.
func (l *Lab) Down(ctx context.Context) error { return Down(ctx, l.cfg, false) }

// DownKeepingLogs is Down, but leaves the hosts' logs in the state directory.
func (l *Lab) DownKeepingLogs(ctx context.Context) error { return Down(ctx, l.cfg, true) }

// Down takes down the lab of c.Dir, whichever process brought it up; keepLogs leaves the
// hosts' logs there.
func Down(ctx context.Context, c Config, keepLogs bool) error {
	c, err := c.withDir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l := &Lab{cfg: c, book: notebook{c.Dir}}
	unlock, err := l.book.lock("up.lock")
	if err != nil {
		return err
	}
	defer unlock()
	return l.down(ctx, keepLogs)
}

func (l *Lab) down(ctx context.Context, keepLogs bool) error {
	r, err := l.book.read()
	if errors.Is(err, errNotUp) {
		return nil
	}
	if err != nil {
		return err
	}
	spaces := pin(r)
	err = l.each(func(h *Host) error { return h.PowerOff(ctx) })
	err = errors.Join(err, r.Switch.signal(ctx, unix.SIGKILL, downWithin))
	err = errors.Join(err, removeCgroups(r.Cgroups, downWithin))
	if err == nil {
		err = awaitNothing(ctx, spaces, l.cfg.Dir)
	}
	spaces.release()
	if err != nil {
		return err
	}
	return clearDir(l.cfg.Dir, keepLogs)
}

// pinned are namespaces held open. The kernel gives the number of a namespace that has ended
// to the next one; while they are held, their numbers stay the lab's and leftovers are found.
type pinned struct {
	files []*os.File
	names []string
}

// pin holds the namespaces of the switch and of every host that is on.
func pin(r Record) pinned {
	var p pinned
	holders := []Process{r.Switch}
	for _, h := range r.Hosts {
		holders = append(holders, h.Holder)
	}
	for _, holder := range holders {
		if !holder.Alive() {
			continue
		}
		for _, name := range holder.namespaces() {
			kind, _, _ := strings.Cut(name, ":")
			f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", holder.PID, kind))
			if err == nil {
				p.files, p.names = append(p.files, f), append(p.names, name)
			}
		}
	}
	return p
}

func (p pinned) release() {
	for _, f := range p.files {
		f.Close()
	}
}

// awaitNothing waits until nothing of the lab runs or is mounted on the machine.
func awaitNothing(ctx context.Context, spaces pinned, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, downWithin)
	defer cancel()
	for {
		left, err := leftovers(spaces.names, dir)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		if !turn.Sleep(ctx, pollEvery) {
			return fmt.Errorf("lab: after taking it down this is left:\n  %s", strings.Join(left, "\n  "))
		}
	}
}

// leftovers lists processes in the lab's namespaces and mounts below its state directory in
// the machine's own mount namespace.
func leftovers(namespaces []string, dir string) ([]string, error) {
	left, err := processesIn(namespaces)
	if err != nil {
		return nil, err
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("lab: read mounts: %w", err)
	}
	defer mounts.Close()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		if strings.Contains(lines.Text(), dir+"/") {
			left = append(left, "mount "+lines.Text())
		}
	}
	return left, nil
}

// processesIn lists processes that live in one of these namespaces.
func processesIn(namespaces []string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("lab: list processes: %w", err)
	}
	var found []string
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		for _, ns := range (Process{PID: pid}).namespaces() {
			if slices.Contains(namespaces, ns) {
				comm, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "comm"))
				found = append(found, fmt.Sprintf("process %d %s in %s", pid, strings.TrimSpace(string(comm)), ns))
				break
			}
		}
	}
	return found, nil
}

// clearDir removes the state directory, or all of it but the logs.
func clearDir(dir string, keepLogs bool) error {
	if !keepLogs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("lab: remove the state directory: %w", err)
		}
		return nil
	}
	var errs []error
	hosts, _ := filepath.Glob(filepath.Join(dir, "host*"))
	for _, host := range hosts {
		errs = append(errs, os.RemoveAll(filepath.Join(host, "lib")), os.RemoveAll(filepath.Join(host, "etc")))
	}
	for _, file := range []string{"record.json", "image.tar", "probe"} {
		if err := os.Remove(filepath.Join(dir, file)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
