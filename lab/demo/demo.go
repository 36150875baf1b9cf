// Package demo is the guided tour: several hosts on one machine, the plugin
// installed on each as a user does it, one network, and a web container per host
// that every other one reaches.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// Network is the name of the demo's network.
const Network = "overlay"

// Config says what to show.
type Config struct {
	Lab    lab.Config
	Plugin string // directory with config.json and rootfs, whose weft also reports
	Out    io.Writer
	Log    func(string) // progress
}

// patience bounds every single wait of the demo.
const patience = time.Minute

// demo is one run.
type demo struct {
	Config
	lab   *lab.Lab
	began time.Time
}

// Run brings everything up, or what is missing of it, and writes the report. It
// may be run again at any time.
func Run(ctx context.Context, c Config) error {
	d := &demo{Config: c, began: time.Now()}
	d.Lab.Log = c.Log
	if d.Lab.Log == nil {
		d.Lab.Log = func(string) {}
	}
	var err error
	if d.lab, err = lab.Up(ctx, d.Lab); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"plugin enabled on every host", d.install},
		{"one cluster", d.meet},
		{"network " + Network + " on every host", d.network},
		{"a web container on every host", d.containers},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("demo: %s: %w", step.what, err)
		}
		d.say(step.what)
	}
	return d.report(ctx)
}

func (d *demo) say(what string) {
	d.Lab.Log(fmt.Sprintf("%5.1f s  %s", time.Since(d.began).Seconds(), what))
}

// each does the same on all hosts at once.
func (d *demo) each(do func(*lab.Host) error) error {
	hosts := d.lab.Hosts()
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() {
			if err := do(h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name(), err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// install enables the plugin: the first host founds, the others join it.
func (d *demo) install(ctx context.Context) error {
	first := d.lab.Host(1)
	return d.each(func(h *lab.Host) error {
		if h.Number() == first.Number() {
			return h.InstallPlugin(ctx, d.Plugin)
		}
		return h.InstallPlugin(ctx, d.Plugin, "WEFT_JOIN="+first.Addr4().String())
	})
}

// weft runs the plugin's own binary on a host, as an operator would.
func (d *demo) weft(ctx context.Context, h *lab.Host, args ...string) (string, error) {
	binary, err := filepath.Abs(filepath.Join(d.Plugin, "rootfs", "weft"))
	if err != nil {
		return "", err
	}
	return h.Exec(ctx, append([]string{binary}, args...)...)
}

// status is what the agent of a host knows.
func (d *demo) status(ctx context.Context, h *lab.Host) (*api.Report, error) {
	out, err := d.weft(ctx, h, "status", "--json")
	if err != nil {
		return nil, err
	}
	var r api.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return nil, fmt.Errorf("weft status --json: %w", err)
	}
	return &r, nil
}

// meet waits until every host sees all of them alive in one cluster.
func (d *demo) meet(ctx context.Context) error {
	want := len(d.lab.Hosts())
	return d.each(func(h *lab.Host) error {
		return lab.Until(ctx, patience, func() error {
			r, err := d.status(ctx, h)
			if err != nil {
				return err
			}
			alive := 0
			for _, o := range r.Hosts {
				if o.State == "alive" {
					alive++
				}
			}
			if r.State != "ready" || alive != want {
				return fmt.Errorf("state %s, %d of %d hosts alive; %s", r.State, alive, want, strings.Join(r.Problems, "; "))
			}
			return nil
		})
	})
}

// network creates the network on the first host and waits for it on the others.
func (d *demo) network(ctx context.Context) error {
	first := d.lab.Host(1)
	if _, err := first.Docker(ctx, "network", "inspect", Network); err != nil {
		if _, err := first.Docker(ctx, "network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName, Network); err != nil {
			return err
		}
	}
	return d.each(func(h *lab.Host) error {
		return lab.Until(ctx, patience, func() error {
			_, err := h.Docker(ctx, "network", "inspect", Network)
			return err
		})
	})
}

func webName(h *lab.Host) string { return fmt.Sprintf("web%d", h.Number()) }

// containers starts a web container on every host, unless it runs.
func (d *demo) containers(ctx context.Context) error {
	return d.each(func(h *lab.Host) error {
		running, err := h.Docker(ctx, "container", "inspect", "-f", "{{.State.Running}}", webName(h))
		if err == nil && running == "true" {
			return nil
		}
		if err == nil {
			_, err = h.Docker(ctx, "start", webName(h))
			return err
		}
		_, err = h.Docker(ctx, "run", "-d", "--net", Network, "--name", webName(h), "--hostname", webName(h), lab.WebImage)
		return err
	})
}

// address is a container's on the network, by its own Docker.
func address(ctx context.Context, h *lab.Host) (netip.Addr, error) {
	out, err := h.Docker(ctx, "container", "inspect", "-f", "{{(index .NetworkSettings.Networks \""+Network+"\").IPAddress}}", webName(h))
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(out)
}

// report fetches every page from every container and writes what a reader wants
// to know.
func (d *demo) report(ctx context.Context) error {
	cells := make([][]cell, len(d.lab.Hosts()))
	addrs := make([]netip.Addr, len(cells))
	err := d.each(func(h *lab.Host) (err error) {
		addrs[h.Number()-1], err = address(ctx, h)
		return err
	})
	if err != nil {
		return err
	}
	for i, h := range d.lab.Hosts() {
		for j, to := range d.lab.Hosts() {
			cells[i] = append(cells[i], probe(ctx, h, addrs[j], webName(to)))
		}
	}
	d.say("every page fetched from every container")
	r, err := d.status(ctx, d.lab.Host(1))
	if err != nil {
		return err
	}
	if err := write(d.Out, r, matrix{addrs, cells}, d.lab.Dir()); err != nil {
		return err
	}
	if bad := slices.IndexFunc(cells, func(row []cell) bool { return slices.ContainsFunc(row, func(c cell) bool { return c.err != nil }) }); bad >= 0 {
		return errors.New("demo: not every container reaches every other; logs are in " + d.lab.Dir())
	}
	return nil
}
