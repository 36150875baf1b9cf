package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// measure takes all rounds. Within a round every path and every network has its turn,
// and each round begins with another one, so that none always follows the same.
func (b *bench) measure(ctx context.Context) (samples, error) {
	var all samples
	for n := range b.Rounds {
		throughput, p50, p99 := sample{}, sample{}, sample{}
		for _, path := range turned(paths, n) {
			bits, times, err := b.path(ctx, path)
			if err != nil {
				return samples{}, fmt.Errorf("bench: round %d, %s: %w", n+1, titles[path], err)
			}
			throughput[path], p50[path], p99[path] = bits, times.P50, times.P99
		}
		all.throughput = append(all.throughput, throughput)
		all.p50, all.p99 = append(all.p50, p50), append(all.p99, p99)
		b.say(progress(n+1, b.Rounds, throughput, p50))
		for k := range b.Starts {
			starts, err := b.starts(ctx, n*b.Starts+k)
			if err != nil {
				return samples{}, fmt.Errorf("bench: round %d: %w", n+1, err)
			}
			all.starts = append(all.starts, starts)
		}
		last := all.starts[len(all.starts)-b.Starts:]
		b.say(fmt.Sprintf("round %d of %d: docker run %.2f s on Weft, %.2f s on a bridge network",
			n+1, b.Rounds, median(column(last, overWeft)), median(column(last, onOwnBridge))))
	}
	return all, nil
}

func progress(n, rounds int, throughput, p50 sample) string {
	var each []string
	for _, path := range paths {
		each = append(each, fmt.Sprintf("%s %.1f Gbit/s %.1f µs", path, throughput[path]/1e9, p50[path]))
	}
	return fmt.Sprintf("round %d of %d: %s", n, rounds, strings.Join(each, ", "))
}

// turned is a list that begins with its n-th element.
func turned(names []string, n int) []string {
	n %= len(names)
	return append(append([]string{}, names[n:]...), names[:n]...)
}

// path measures one path: bits per second and round trips.
func (b *bench) path(ctx context.Context, path string) (bits float64, times probe.Times, err error) {
	out, err := b.probe(ctx, path, "probe", "throughput", "-for", b.Duration.String(), b.to[path])
	if err != nil {
		return 0, times, err
	}
	var stream probe.Throughput
	if err := json.Unmarshal([]byte(out), &stream); err != nil {
		return 0, times, fmt.Errorf("the probe said %q: %w", out, err)
	}
	back := pinned(b.mask, "probe", "roundtrip", "-count", strconv.Itoa(b.RoundTrips), b.toPinned[path])
	if out, err = b.probe(ctx, path, back...); err != nil {
		return 0, times, err
	}
	if err := json.Unmarshal([]byte(out), &times); err != nil {
		return 0, times, fmt.Errorf("the probe said %q: %w", out, err)
	}
	return stream.BitsPerSecond, times, nil
}

// probe runs a command in the client's container of a path.
func (b *bench) probe(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	return b.client().Docker(ctx, append([]string{"exec", container(path)}, args...)...)
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
