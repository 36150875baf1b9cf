// Package bench measures the plugin beside what it is compared with: in one lab, in
// one run and in turns, throughput and round trips between containers on two hosts
// over Weft, over Docker's swarm overlay, over a bare VXLAN device and over the bare
// underlay, and how long "docker run" takes on each kind of network.
//
// Only the ratios carry over to another machine. Each is the median of the ratios of
// measurements taken seconds apart, and is shown with the range of the middle half of
// them: a wide one says that something else ran.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/document"
)

// DefaultDir is the state directory of a bench that names none: not the one of the
// demo, which may be up.
const DefaultDir = lab.DefaultDir + "-bench"

// Config says what to measure and how long.
type Config struct {
	// Dir is the lab's state directory; empty means DefaultDir. A lab must not be up there.
	Dir string
	// Plugin is the directory with config.json and rootfs.
	Plugin string
	// Rounds is how often every path is measured, 1 to 100.
	Rounds int
	// Duration is how long one throughput measurement takes, 100 ms to 1 min.
	Duration time.Duration
	// Connections is how many connections per path and round are timed, 1 to 100. One
	// can be slower than the next on the same path by a tenth, for as long as it lasts.
	Connections int
	// RoundTrips is how many round trips each connection makes, 100 to 1,000,000.
	RoundTrips int
	// Starts is how often each round runs "docker run" on each network, 1 to 100.
	Starts int
	// Addresses is how many addresses each round has one caller ask for and give back,
	// 16 to 2000; 16 callers ask for four times as many.
	Addresses int
	// Crowd is how many containers on three hosts are started on each overlay at once, 0 (none) to 1000.
	Crowd int
	// Probe is as in lab.Config.
	Probe string
	// Keep leaves the lab up for a closer look.
	Keep bool
	// JSON writes the report as JSON instead of tables.
	JSON bool
	// Document is a file whose figures are replaced by the report; empty: none.
	Document string
	// Out receives the report.
	Out io.Writer
	// Log receives progress, a line at a time, from several goroutines; nil means silence.
	Log func(line string)
}

func (c Config) check() error {
	within := func(name string, value, least, most int) error {
		if value < least || value > most {
			return fmt.Errorf("bench: --%s %d, it can be %d to %d", name, value, least, most)
		}
		return nil
	}
	if c.Duration < 100*time.Millisecond || c.Duration > time.Minute {
		return fmt.Errorf("bench: --duration %v, it can be 100ms to 1m: a shorter time measures buffers", c.Duration)
	}
	return errors.Join(
		within("rounds", c.Rounds, 1, 100),
		within("connections", c.Connections, 1, 100),
		within("round-trips", c.RoundTrips, 100, 1_000_000),
		within("starts", c.Starts, 1, 100),
		within("addresses", c.Addresses, 16, 2000),
		within("crowd", c.Crowd, 0, 1000),
	)
}

// bench is one run.
type bench struct {
	Config
	lab   *lab.Lab
	began time.Time
	mask  string // affinity mask of the processor for round trips

	desk desk

	// Addresses of each path's servers.
	to, toPinned map[string]string
}

// client and server are the two hosts of every measurement.
func (b *bench) client() *lab.Host { return b.lab.Host(1) }
func (b *bench) server() *lab.Host { return b.lab.Host(2) }

// Run brings a lab up, measures, writes the report and takes the lab down, also when
// it fails or ctx ends. The logs of a run that failed stay in the state directory.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.Log == nil {
		c.Log = func(string) {}
	}
	enter := func(Report) error { return nil }
	if c.Document != "" {
		d, err := document.Open(c.Document, "make bench")
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		enter = func(r Report) error { return d.Enter("```" + text(r) + "```\n") }
	}
	hosts := 2
	if c.Crowd > 0 {
		hosts = crowdHosts
	}
	at := lab.Config{Hosts: hosts, Dir: c.Dir, Probe: c.Probe, Log: c.Log}
	if _, err := lab.Open(at); err == nil {
		return fmt.Errorf("bench: a lab is up in %s, perhaps an earlier bench's; take it down with `lab --state %s down`, or name another directory with --state", c.Dir, c.Dir)
	}
	b := &bench{
		Config: c, began: time.Now(), mask: firstMask(allowedCPUs()),
		to: map[string]string{}, toPinned: map[string]string{},
	}
	where := b.machine()
	if b.lab, err = lab.Up(ctx, at); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.down(ctx, err != nil)) }()
	defer b.desk.close()
	if err := b.setUp(ctx); err != nil {
		return err
	}
	rounds, err := b.measure(ctx)
	if err != nil {
		return err
	}
	if where.Docker, err = b.client().Docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return err
	}
	report := summarize(where, rounds)
	return errors.Join(write(c.Out, report, c.JSON), enter(report))
}

// machine is what a reader needs to judge the figures, before the run loads it.
func (b *bench) machine() Machine {
	return Machine{
		CPUs: runtime.NumCPU(), Kernel: firstField("/proc/sys/kernel/osrelease"), Load: firstField("/proc/loadavg"),
		Rounds: b.Rounds, Seconds: b.Duration.Seconds(), Connections: b.Connections, RoundTrips: b.RoundTrips, Starts: b.Starts, Addresses: b.Addresses, Crowd: b.Crowd,
	}
}

// down takes the lab down, also when ctx has ended.
func (b *bench) down(ctx context.Context, failed bool) error {
	if b.Keep {
		b.Log(fmt.Sprintf("the lab stays up: `lab --state %s status`, and `lab --state %s down` at the end", b.Dir, b.Dir))
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if failed {
		b.Log("logs are in " + b.Dir)
		return b.lab.DownKeepingLogs(ctx)
	}
	b.say("down")
	return b.lab.Down(ctx)
}

func (b *bench) say(parts ...string) {
	b.Log(fmt.Sprintf("%5.1f s  %s", time.Since(b.began).Seconds(), strings.Join(parts, " ")))
}
