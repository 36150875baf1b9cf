// Command probe measures networks from inside containers: it serves and measures
// throughput, round trips, reachability and loss, and prints results as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/weftnet/weft/lab/probe"
)

const usage = `probe serve [-addr :7000]                       answer probes until stopped
probe throughput [-for 3s] [-streams 1] [-reverse] HOST[:PORT]
probe roundtrip [-count 1000] [-size 1] HOST[:PORT]
probe ping [-count 3] HOST[:PORT]…              who answers, all at once
probe stream [-every 2ms] [-for 0] [-size 64] [-tcp] HOST[:PORT]
                                                numbered packets until stopped: which were lost; over one
                                                TCP connection whether it broke
probe names [-every 100ms] [-for 0] [-keep] [-server 127.0.0.11:53] NAME
                                                questions until stopped: which answers, and when
probe lookups [-count 500] [-server 127.0.0.11:53] NAME
                                                how long questions take, one after the other
probe nothing [-addr :53]                       a DNS server that knows no name, until stopped
probe collect [-addr :7000] [-for 1m] N         when each of N names arrived, which others tell
probe arrive SERVER NAME                        tells its name to a collector, and stays until stopped`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // stop only gives signals back
	}
}

var errUsage = errors.New(usage)

// run carries out one subcommand and writes its result.
func run(ctx context.Context, args []string, out io.Writer) error {
	commands := map[string]func(context.Context, []string) (any, error){
		"serve": serve, "throughput": throughput, "roundtrip": roundTrip, "ping": ping, "stream": stream, "names": names, "lookups": lookups, "nothing": nothing, "collect": collect, "arrive": arrive,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		return errUsage
	}
	result, err := commands[args[0]](ctx, args[1:])
	if err != nil || result == nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// parse reads flags and returns the servers named after them; there must be least.
func parse(flags *flag.FlagSet, args []string, least int) ([]string, error) {
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("%w\n%w", err, errUsage)
	}
	if flags.NArg() < least {
		return nil, errUsage
	}
	var targets []string
	for _, target := range flags.Args() {
		if _, _, err := net.SplitHostPort(target); err != nil {
			target = net.JoinHostPort(target, probe.Port)
		}
		targets = append(targets, target)
	}
	return targets, nil
}

func serve(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	addr := flags.String("addr", ":"+probe.Port, "")
	if _, err := parse(flags, args, 0); err != nil {
		return nil, err
	}
	s, err := probe.Serve(*addr)
	if err != nil {
		return nil, err
	}
	<-ctx.Done()
	return nil, s.Close()
}

func throughput(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("throughput", flag.ContinueOnError)
	last := flags.Duration("for", 3*time.Second, "")
	streams := flags.Int("streams", 1, "")
	reverse := flags.Bool("reverse", false, "")
	targets, err := parse(flags, args, 1)
	if err != nil {
		return nil, err
	}
	return probe.MeasureThroughput(ctx, targets[0], *streams, *reverse, *last)
}

func roundTrip(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("roundtrip", flag.ContinueOnError)
	count := flags.Int("count", 1000, "")
	size := flags.Int("size", 1, "")
	targets, err := parse(flags, args, 1)
	if err != nil {
		return nil, err
	}
	return probe.MeasureRoundTrips(ctx, targets[0], *count, *size)
}

func ping(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("ping", flag.ContinueOnError)
	count := flags.Int("count", 3, "")
	targets, err := parse(flags, args, 1)
	if err != nil {
		return nil, err
	}
	return probe.Ping(ctx, targets, *count), nil
}

func names(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("names", flag.ContinueOnError)
	every := flags.Duration("every", 100*time.Millisecond, "")
	length := flags.Duration("for", 0, "")
	keep := flags.Bool("keep", false, "")
	server := flags.String("server", "127.0.0.11:53", "")
	if _, err := parse(flags, args, 1); err != nil {
		return nil, err
	}
	if *length > 0 {
		limited, cancel := context.WithTimeout(ctx, *length)
		defer cancel()
		ctx = limited
	}
	return probe.Names(ctx, *server, flags.Arg(0), *every, *keep)
}

func lookups(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("lookups", flag.ContinueOnError)
	count := flags.Int("count", 500, "")
	server := flags.String("server", "127.0.0.11:53", "")
	if _, err := parse(flags, args, 1); err != nil {
		return nil, err
	}
	return probe.Lookups(ctx, *server, flags.Arg(0), *count)
}

func collect(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("collect", flag.ContinueOnError)
	addr := flags.String("addr", ":"+probe.Port, "")
	length := flags.Duration("for", time.Minute, "")
	if _, err := parse(flags, args, 1); err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(flags.Arg(0))
	if err != nil {
		return nil, errUsage
	}
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	return probe.Collect(ctx, *addr, n)
}

func arrive(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("arrive", flag.ContinueOnError)
	targets, err := parse(flags, args, 2)
	if err == nil {
		err = probe.Arrive(ctx, targets[0], flags.Arg(1))
	}
	if err != nil {
		return nil, err
	}
	<-ctx.Done()
	return nil, nil
}

func nothing(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("nothing", flag.ContinueOnError)
	addr := flags.String("addr", ":53", "")
	if _, err := parse(flags, args, 0); err != nil {
		return nil, err
	}
	return nil, probe.ServeNothing(ctx, *addr)
}

func stream(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("stream", flag.ContinueOnError)
	every := flags.Duration("every", 2*time.Millisecond, "")
	last := flags.Duration("for", 0, "")
	size := flags.Int("size", 64, "")
	tcp := flags.Bool("tcp", false, "")
	targets, err := parse(flags, args, 1)
	if err != nil {
		return nil, err
	}
	if *tcp {
		return probe.MeasureConnection(ctx, targets[0], *every, *last, *size)
	}
	return probe.MeasureLoss(ctx, targets[0], *every, *last, *size)
}
