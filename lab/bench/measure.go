package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// measure takes all rounds. In every one each path and each network has its turn, and
// turns begin with another one each time, so that none always follows the same.
func (b *bench) measure(ctx context.Context) (samples, error) {
	all, err := b.allGrants(ctx)
	if err != nil {
		return samples{}, fmt.Errorf("bench: block grants: %w", err)
	}
	for n := range b.Rounds {
		one, err := b.round(ctx, n)
		if err != nil {
			return samples{}, fmt.Errorf("bench: round %d: %w", n+1, err)
		}
		all.throughput = append(all.throughput, one.throughput...)
		all.p50, all.p99 = append(all.p50, one.p50...), append(all.p99, one.p99...)
		all.reached = append(all.reached, one.reached...)
		all.starts, all.connects = append(all.starts, one.starts...), append(all.connects, one.connects...)
		all.found, all.gone, all.lookups = append(all.found, one.found...), append(all.gone, one.gone...), append(all.lookups, one.lookups...)
		all.addressP50, all.addressP99 = append(all.addressP50, one.addressP50...), append(all.addressP99, one.addressP99...)
		all.addressRate, all.processor = append(all.addressRate, one.addressRate...), append(all.processor, one.processor...)
		b.say(progress(n+1, b.Rounds, one))
	}
	if err := b.crowd(ctx, &all); err != nil {
		return samples{}, fmt.Errorf("bench: %w", err)
	}
	return all, nil
}

// allGrants takes those of all rounds at once: an address that no container came for
// is free again after a while, and no block need be asked for.
func (b *bench) allGrants(ctx context.Context) (all samples, err error) {
	for range b.Rounds {
		grants, err := b.grant(ctx)
		if err != nil {
			return all, err
		}
		all.grants = append(all.grants, grants)
	}
	return all, nil
}

// round takes each kind of measurement once or several times.
func (b *bench) round(ctx context.Context, n int) (one samples, err error) {
	throughput, err := b.throughput(ctx, n)
	if err != nil {
		return one, err
	}
	one.throughput = []sample{throughput}
	for k := range b.Connections {
		p50, p99, err := b.roundTrips(ctx, n*b.Connections+k)
		if err != nil {
			return one, err
		}
		one.p50, one.p99 = append(one.p50, p50), append(one.p99, p99)
	}
	for k := range b.Starts {
		starts, err := b.starts(ctx, n*b.Starts+k)
		if err != nil {
			return one, err
		}
		one.starts = append(one.starts, starts)
		connects, err := b.connect(ctx, n*b.Starts+k)
		if err != nil {
			return one, err
		}
		one.connects = append(one.connects, connects)
	}
	if err := b.names(ctx, n, &one); err != nil {
		return one, err
	}
	reached, err := b.reached(ctx, n)
	if err != nil {
		return one, err
	}
	one.reached = []sample{reached}
	t, err := b.addresses(ctx)
	one.addressP50, one.addressP99, one.addressRate, one.processor = []sample{t.p50}, []sample{t.p99}, []sample{t.rate}, []sample{t.processor}
	return one, err
}

func progress(n, rounds int, one samples) string {
	var each []string
	for _, path := range paths {
		bits, back := median(column(one.throughput, path)), median(column(one.p50, path))
		each = append(each, fmt.Sprintf("%s %.1f Gbit/s %.1f µs", path, bits/1e9, back))
	}
	return fmt.Sprintf("round %d of %d: %s; docker run %.2f s on weft, %.2f s on %s", n, rounds, strings.Join(each, ", "),
		median(column(one.starts, overWeft)), median(column(one.starts, onOwnBridge)), onOwnBridge)
}

// turned is a list that begins with its n-th element.
func turned(names []string, n int) []string {
	n %= len(names)
	return append(append([]string{}, names[n:]...), names[:n]...)
}

// throughput measures one stream on every path, in bits per second.
func (b *bench) throughput(ctx context.Context, n int) (sample, error) {
	bits := sample{}
	for _, path := range turned(paths, n) {
		var stream probe.Throughput
		err := b.ask(ctx, path, &stream, "probe", "throughput", "-for", b.Duration.String(), b.to[path])
		if err != nil {
			return nil, err
		}
		bits[path] = stream.BitsPerSecond
	}
	return bits, nil
}

// roundTrips times one connection on every path, in microseconds.
func (b *bench) roundTrips(ctx context.Context, n int) (p50, p99 sample, err error) {
	p50, p99 = sample{}, sample{}
	for _, path := range turned(paths, n) {
		var times probe.Times
		command := pinned(b.mask, "probe", "roundtrip", "-count", strconv.Itoa(b.RoundTrips), b.toPinned[path])
		if err := b.ask(ctx, path, &times, command...); err != nil {
			return nil, nil, err
		}
		p50[path], p99[path] = times.P50, times.P99
	}
	return p50, p99, nil
}

// ask runs a probe on a path and decodes what it found.
func (b *bench) ask(ctx context.Context, path string, found any, command ...string) error {
	out, err := b.probe(ctx, path, command...)
	if err == nil {
		err = json.Unmarshal([]byte(out), found)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", titles[path], err)
	}
	return nil
}

// probe runs a command in the client's container of a path, or on the client's host itself.
func (b *bench) probe(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	if path == fromHost {
		return b.client().Exec(ctx, b.onHost(args)...)
	}
	return b.client().Docker(ctx, append([]string{"exec", container(path)}, args...)...)
}

// reached times, on each overlay, "docker run" on one host until the container has reached one on the other
// host and been answered, in seconds.
func (b *bench) reached(ctx context.Context, n int) (sample, error) {
	took := sample{}
	for _, path := range turned(overlays, n) {
		t, err := b.reach(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("reach a container on %s: %w", titles[path], err)
		}
		took[path] = t.Seconds()
	}
	return took, nil
}

func (b *bench) reach(ctx context.Context, path string) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	const name = "bench-first"
	to, err := b.addressOf(ctx, b.client(), path, container(path))
	if err != nil {
		return 0, err
	}
	var arrived map[string]time.Time
	collected := make(chan error, 1)
	go func() {
		collected <- b.ask(ctx, path, &arrived, "probe", "collect", "-addr", crowdPort, "-for", patience.String(), "1")
	}()
	began := time.Now()
	if _, err := b.server().Docker(ctx, "run", "-d", "--name", name, "--net", dockerNetwork[path], lab.BusyBoxImage, "probe", "arrive", to.String()+crowdPort, name); err != nil {
		return 0, err
	}
	err = <-collected
	_, rmErr := b.server().Docker(context.WithoutCancel(ctx), "rm", "-f", name)
	if err = errors.Join(err, rmErr); err != nil {
		return 0, err
	}
	at, ok := arrived[name]
	if !ok {
		return 0, fmt.Errorf("it did not arrive within %s", patience)
	}
	return at.Sub(began), nil
}

// onHost is a command of a container as it is on a host, where the probe lies elsewhere.
func (b *bench) onHost(args []string) []string {
	file := b.Probe
	if file == "" {
		file = filepath.Join(b.Dir, "probe")
	}
	out := slices.Clone(args)
	for i := range out {
		if out[i] == "probe" {
			out[i] = file
			break
		}
	}
	return out
}

// starts times one "docker run" on every network, in seconds.
func (b *bench) starts(ctx context.Context, n int) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	took := sample{}
	for _, network := range turned(networks, n) {
		began := time.Now()
		if _, err := b.client().Docker(ctx, "run", "--rm", "--net", dockerNetwork[network], lab.BusyBoxImage, "true"); err != nil {
			return nil, err
		}
		took[network] = time.Since(began).Seconds()
	}
	return took, nil
}
