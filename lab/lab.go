package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Lab is a lab that is up. Its methods may be called concurrently.
type Lab struct {
	cfg   Config
	book  notebook
	tools tools
	trees []hierarchy
	began time.Time
}

// Up brings a lab up and returns when every host's Docker answers. What is up already
// stays as it is, what has ended is started again, and hosts beyond those there are added.
// A new lab that does not come up is taken down again; its logs stay.
func Up(ctx context.Context, c Config) (*Lab, error) {
	c, err := c.withDir()
	if err == nil {
		c, err = likeBefore(c)
	}
	if err == nil {
		c, err = c.withDefaults()
	}
	if err != nil {
		return nil, err
	}
	if err := Missing(c); err != nil {
		return nil, err
	}
	if err := ownDir(c.Dir); err != nil {
		return nil, err
	}
	book := notebook{c.Dir}
	unlock, err := book.lock("up.lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	_, err = book.read()
	isNew := errors.Is(err, errNotUp)
	if err != nil && !isNew {
		return nil, err
	}
	l, err := newLab(c)
	if err != nil {
		return nil, err
	}
	if err := l.up(ctx); err != nil {
		if isNew {
			err = errors.Join(err, l.down(context.WithoutCancel(ctx), true))
		}
		return nil, fmt.Errorf("%w\nlogs are in %s", err, c.Dir)
	}
	return l, nil
}

// likeBefore gives a Config the underlay of the lab that is up in its directory, and refuses
// one that wants another: hosts that are up would not follow.
func likeBefore(c Config) (Config, error) {
	r, err := notebook{c.Dir}.read()
	if errors.Is(err, errNotUp) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	was, err := r.Config.underlay()
	if err != nil {
		return c, err
	}
	if c.MTU != 0 && c.MTU != was.MTU || c.Underlay4.IsValid() && c.Underlay4 != was.Underlay4 || c.Underlay6.IsValid() && c.Underlay6 != was.Underlay6 {
		return c, fmt.Errorf("lab: the lab in %s is up with MTU %d, %s and %s; take it down to change that", c.Dir, was.MTU, was.Underlay4, was.Underlay6)
	}
	c.MTU, c.Underlay4, c.Underlay6 = was.MTU, was.Underlay4, was.Underlay6
	return c, nil
}

// ownDir makes the state directory, or refuses one that others could have prepared.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("lab: state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("lab: state directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != 0 || st.Mode&0o022 != 0 {
		return fmt.Errorf("lab: state directory %s must be a directory of root's that nobody else can write", dir)
	}
	return nil
}

func newLab(c Config) (*Lab, error) {
	t, err := findTools(c)
	if err != nil {
		return nil, err
	}
	trees, err := machineHierarchies()
	if err != nil {
		return nil, err
	}
	return &Lab{cfg: c, book: notebook{c.Dir}, tools: t, trees: trees, began: time.Now()}, nil
}

// Open returns the lab of a state directory that Up has brought up, also in another
// process.
func Open(c Config) (*Lab, error) {
	c, err := recall(c)
	if err != nil {
		return nil, err
	}
	return newLab(c)
}

// recall completes a Config with what the record of its state directory says.
func recall(c Config) (Config, error) {
	c, err := c.withDir()
	if err != nil {
		return c, err
	}
	r, err := notebook{c.Dir}.read()
	if err != nil {
		return c, err
	}
	was, err := r.Config.underlay()
	if err != nil {
		return c, err
	}
	c.MTU, c.Underlay4, c.Underlay6 = was.MTU, was.Underlay4, was.Underlay6
	c.Hosts = max(1, len(r.Hosts))
	c.Engine, c.DockerArgs, c.NoDocker = r.Config.Engine, r.Config.Docker, r.Config.NoDocker
	return c.withDefaults()
}

func (l *Lab) up(ctx context.Context) error {
	err := l.book.change(func(r *Record) {
		r.Config = wireConfig{
			MTU: l.cfg.MTU, Underlay4: l.cfg.Underlay4.String(), Underlay6: l.cfg.Underlay6.String(),
			Engine: l.cfg.Engine, Docker: l.cfg.DockerArgs, NoDocker: l.cfg.NoDocker,
		}
		r.Cgroups = cgroupsOf(l.trees, labCgroup(l.cfg.Dir))
		for n := range l.cfg.Hosts {
			if _, ok := r.Hosts[n+1]; !ok {
				r.Hosts[n+1] = HostRecord{}
			}
		}
	})
	if err != nil {
		return err
	}
	if err := l.step("switch", func() error { return l.upSwitch(ctx) }); err != nil {
		return err
	}
	if !l.cfg.NoDocker {
		if err := l.step("image", func() error { return l.makeImage(ctx) }); err != nil {
			return err
		}
	}
	return l.each(func(h *Host) error {
		return l.step(h.Name(), func() error { return h.PowerOn(ctx) })
	})
}

// upSwitch starts the switch if it does not run, with its bridge and the cuts in force.
func (l *Lab) upSwitch(ctx context.Context) error {
	r, err := l.book.read()
	if err != nil {
		return err
	}
	if !r.Switch.Alive() {
		script := "read -r _ && echo ready >&3 && exec 3>&- </dev/null && exec sleep infinity"
		logFile := filepath.Join(l.cfg.Dir, "switch.log")
		err := startHolder(ctx, script, unix.CLONE_NEWNET, logFile, func(p Process) error {
			return l.book.change(func(r *Record) { r.Switch = p })
		})
		if err != nil {
			return err
		}
		if r, err = l.book.read(); err != nil {
			return err
		}
	}
	if err := wireSwitch(l.cfg, r.Switch); err != nil {
		return err
	}
	return applyCuts(ctx, l.tools.nft, r.Switch, r.Cuts)
}

// step carries out one part of the bring-up and logs how long it took.
func (l *Lab) step(name string, do func() error) error {
	began := time.Now()
	err := do()
	outcome := "up"
	if err != nil {
		outcome = "failed"
	}
	l.cfg.Log(fmt.Sprintf("%5.1f s  %s %s, took %.1f s", time.Since(l.began).Seconds(), name, outcome, time.Since(began).Seconds()))
	return err
}

// each does something with all hosts at once.
func (l *Lab) each(do func(*Host) error) error {
	hosts := l.Hosts()
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() { errs[i] = do(h) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Hosts are all hosts of the lab by number.
func (l *Lab) Hosts() []*Host {
	r, err := l.book.read()
	if err != nil {
		return nil
	}
	var hosts []*Host
	for _, n := range r.numbers() {
		hosts = append(hosts, l.Host(n))
	}
	return hosts
}

func (r Record) numbers() []int {
	var numbers []int
	for n := range r.Hosts {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}

// Host is the host with this number, from 1. Methods of a host that the lab does not have
// fail.
func (l *Lab) Host(n int) *Host { return &Host{lab: l, n: n} }

// Dir is the lab's state directory.
func (l *Lab) Dir() string { return l.cfg.Dir }

// Cut interrupts the underlay. Cuts add up until they are healed.
func (l *Lab) Cut(ctx context.Context, cuts ...Cut) error {
	return l.recut(ctx, func(r *Record) {
		for _, c := range cuts {
			r.Cuts = withCut(r.Cuts, c, r.numbers())
		}
	})
}

// Heal ends every interruption that one of these cuts covers. Without cuts it ends all.
func (l *Lab) Heal(ctx context.Context, cuts ...Cut) error {
	return l.recut(ctx, func(r *Record) {
		if len(cuts) == 0 {
			r.Cuts = nil
		}
		for _, c := range cuts {
			r.Cuts = withoutCut(r.Cuts, c)
		}
	})
}

func (l *Lab) recut(ctx context.Context, change func(*Record)) error {
	unlock, err := l.book.lock("cut.lock")
	if err != nil {
		return err
	}
	defer unlock()
	var r Record
	if err := l.book.change(func(on *Record) { change(on); r = *on }); err != nil {
		return err
	}
	return applyCuts(ctx, l.tools.nft, r.Switch, r.Cuts)
}
