package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/lab"
)

// What is measured of addresses.
const (
	oneSync     = "fdatasync"
	request     = "request"
	release     = "release"
	requestMany = "request-16"
	releaseMany = "release-16"
	waitsGrant  = "request-with-grant"
	byWeft      = "weft-ipam"
	byBuiltIn   = "built-in-ipam"
)

// manyCallers ask at the same time.
const manyCallers = 16

// grants is how many grants a round times: each takes a block for good.
const grants = 10

var (
	timed     = []string{oneSync, request, release, requestMany, releaseMany}
	rated     = []string{request, requestMany, release, releaseMany}
	costed    = []string{requestMany, releaseMany}
	granted   = []string{oneSync, waitsGrant}
	connected = []string{byWeft, byBuiltIn}
)

// The networks that addresses are asked of: their subnets and blocks. One block holds
// all that is asked for at once; of the other each address is a block.
const (
	poolNetwork  = "bench-pool"
	poolSubnet   = "10.201.0.0/16"
	poolBlock    = "/17"
	grantNetwork = "bench-grant"
	grantSubnet  = "10.202.0.0/20"
	grantBlock   = "/32"
	connectee    = "bench-connectee"
)

// connectSubnet is Weft's own network's, too: its IPAM hands out nothing of a subnet that
// no network of its driver has.
var connectSubnet = map[string]string{byWeft: poolSubnet, byBuiltIn: "10.204.0.0/16"}

// desk is where addresses are asked for.
type desk struct {
	agent   int       // pid of the client's, as this process sees it
	callers []*caller // of the client's plugin
	far     *caller   // of the server's: a host that does not decide itself
	docker  *caller
	idle    interface{ Close() error }
	file    *os.File // beside the agent's state, to sync
}

func (b *bench) placeAddresses(ctx context.Context) (err error) {
	for _, n := range []struct{ name, subnet, block string }{{poolNetwork, poolSubnet, poolBlock}, {grantNetwork, grantSubnet, grantBlock}} {
		_, err := b.client().Docker(ctx, "network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName, "--subnet", n.subnet, "-o", "weft.block="+n.block, n.name)
		if err != nil {
			return err
		}
	}
	if b.desk.idle, err = serveIdle(b.client()); err != nil {
		return err
	}
	for name, ipam := range map[string][]string{byWeft: {"--ipam-driver", lab.PluginName}, byBuiltIn: nil} {
		args := append([]string{"network", "create", "-d", idleDriver, "--subnet", connectSubnet[name]}, append(ipam, "bench-"+name)...)
		if _, err := b.client().Docker(ctx, args...); err != nil {
			return err
		}
	}
	if _, err := b.client().Docker(ctx, "run", "-d", "--name", connectee, lab.BusyBoxImage, "sleep", "100000"); err != nil {
		return err
	}
	err = errors.Join(b.openDesk(ctx), lab.Until(ctx, patience, func() error {
		_, err := b.server().Docker(ctx, "network", "inspect", grantNetwork)
		return err
	}))
	if err == nil {
		_, err = b.connect(ctx, 0) // the first one fetches a block
	}
	return err
}

func (b *bench) openDesk(ctx context.Context) error {
	near, err := b.client().AgentDialer(ctx)
	if err != nil {
		return err
	}
	if b.desk.agent, err = listener(ctx, near); err != nil {
		return err
	}
	far, err := b.server().AgentDialer(ctx)
	if err != nil {
		return err
	}
	for range manyCallers {
		b.desk.callers = append(b.desk.callers, newCaller(near))
	}
	b.desk.far = newCaller(far)
	if b.desk.docker, err = docker(b.client()); err != nil {
		return err
	}
	b.desk.file, err = os.Create(filepath.Join(b.client().Disk(), "weft", "bench-sync"))
	return err
}

// close gives everything back, as far as it was opened.
func (d *desk) close() {
	for _, c := range append(slices.Clone(d.callers), d.far, d.docker) {
		if c != nil {
			c.close()
		}
	}
	if d.idle != nil {
		_ = d.idle.Close() // its socket goes with the host
	}
	if d.file != nil {
		_ = d.file.Close() // nothing in it matters
	}
}

// sync times one page written and synced, on the disk that addresses are written to.
func (d *desk) sync() (time.Duration, error) {
	began := time.Now()
	_, err := d.file.WriteAt(make([]byte, 4096), 0)
	if err == nil {
		err = unix.Fdatasync(int(d.file.Fd()))
	}
	return time.Since(began), err
}

func poolID(subnet string) string { return "weft:" + subnet }

// pick asks for an address and times it.
func pick(ctx context.Context, c *caller, subnet string) (addr string, took time.Duration, err error) {
	var got struct{ Address string }
	began := time.Now()
	err = c.ask(ctx, "/IpamDriver.RequestAddress", map[string]string{"PoolID": poolID(subnet)}, &got)
	return got.Address, time.Since(began), err
}

// giveBack releases an address and times it. Docker names it without the length of
// its prefix.
func giveBack(ctx context.Context, c *caller, subnet, addr string) (time.Duration, error) {
	began := time.Now()
	err := c.ask(ctx, "/IpamDriver.ReleaseAddress", map[string]string{"PoolID": poolID(subnet), "Address": addr}, nil)
	return time.Since(began), err
}

// addressTimes are one round's, in microseconds, and per second.
type addressTimes struct{ p50, p99, rate, processor sample }

// addresses measures one caller in turns with bare syncs, then many at once.
func (b *bench) addresses(ctx context.Context) (t addressTimes, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	// One processor does for all callers: on more they would also wake each other up.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	took := map[string][]time.Duration{}
	t = addressTimes{sample{}, sample{}, sample{}, sample{}}
	if err := b.alone(ctx, took); err != nil {
		return t, err
	}
	for _, what := range []string{request, release} {
		t.rate[what] = float64(len(took[what])) / total(took[what]).Seconds()
	}
	addrs := make([]string, 4*b.Addresses)
	for _, what := range []string{requestMany, releaseMany} {
		before, err := b.desk.processor()
		if err != nil {
			return t, err
		}
		elapsed, err := b.together(ctx, took, what, addrs)
		if err != nil {
			return t, err
		}
		after, err := b.desk.processor()
		if err != nil {
			return t, err
		}
		t.rate[what] = float64(len(addrs)) / elapsed.Seconds()
		t.processor[what] = float64((after - before).Nanoseconds()) / 1e3 / float64(len(addrs))
	}
	for what, times := range took {
		t.p50[what], t.p99[what] = quantile(times, 50), quantile(times, 99)
	}
	return t, nil
}

// alone takes addresses and gives them back, one by one.
func (b *bench) alone(ctx context.Context, took map[string][]time.Duration) error {
	var held []string
	d, c := &b.desk, b.desk.callers[0]
	note := func(what string, t time.Duration, err error) error {
		took[what] = append(took[what], t)
		return err
	}
	for range b.Addresses {
		t, err := d.sync()
		if err := note(oneSync, t, err); err != nil {
			return err
		}
		addr, t, err := pick(ctx, c, poolSubnet)
		if err := note(request, t, err); err != nil {
			return err
		}
		held = append(held, addr)
	}
	for _, addr := range held {
		t, err := d.sync()
		if err := note(oneSync, t, err); err != nil {
			return err
		}
		t, err = giveBack(ctx, c, poolSubnet, bare(addr))
		if err := note(release, t, err); err != nil {
			return err
		}
	}
	return nil
}

// together has all callers take an address for each place of the list, or give back
// what is in it.
func (b *bench) together(ctx context.Context, took map[string][]time.Duration, what string, addrs []string) (time.Duration, error) {
	times, errs := make([]time.Duration, len(addrs)), make([]error, len(b.desk.callers))
	var all sync.WaitGroup
	began := time.Now()
	for n, c := range b.desk.callers {
		all.Go(func() {
			for i := n; i < len(addrs) && errs[n] == nil; i += len(b.desk.callers) {
				if what == requestMany {
					addrs[i], times[i], errs[n] = pick(ctx, c, poolSubnet)
				} else {
					times[i], errs[n] = giveBack(ctx, c, poolSubnet, bare(addrs[i]))
				}
			}
		})
	}
	all.Wait()
	took[what] = times
	return time.Since(began), errors.Join(errs...)
}

// grant times requests that wait for a block, asked on the host that decides nothing
// itself, in turns with bare syncs: the medians, in microseconds.
func (b *bench) grant(ctx context.Context) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var syncs, waits []time.Duration
	for range grants {
		t, err := b.desk.sync()
		if err != nil {
			return nil, err
		}
		_, w, err := pick(ctx, b.desk.far, grantSubnet)
		if err != nil {
			return nil, err
		}
		syncs, waits = append(syncs, t), append(waits, w)
	}
	return sample{oneSync: quantile(syncs, 50), waitsGrant: quantile(waits, 50)}, nil
}

// connect times docker network connect with a driver that does nothing, with each
// IPAM in turn, in seconds.
func (b *bench) connect(ctx context.Context, n int) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	took := sample{}
	for _, ipam := range turned(connected, n) {
		network := "/networks/bench-" + ipam
		began := time.Now()
		if err := b.desk.docker.ask(ctx, network+"/connect", map[string]string{"Container": connectee}, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", titles[ipam], err)
		}
		took[ipam] = time.Since(began).Seconds()
		if err := b.desk.docker.ask(ctx, network+"/disconnect", map[string]string{"Container": connectee}, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", titles[ipam], err)
		}
	}
	return took, nil
}

// bare is an address without the length of its prefix.
func bare(addr string) string {
	a, _, _ := strings.Cut(addr, "/")
	return a
}

func total(took []time.Duration) (sum time.Duration) {
	for _, t := range took {
		sum += t
	}
	return sum
}

// quantile is in microseconds.
func quantile(took []time.Duration, percent int) float64 {
	sorted := slices.Sorted(slices.Values(took))
	return float64(sorted[(len(sorted)-1)*percent/100].Nanoseconds()) / 1e3
}
