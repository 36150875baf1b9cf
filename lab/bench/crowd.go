package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weftnet/weft/lab"
)

// overAgents is the part of Weft's agents in the processor time of a crowd.
const overAgents = "agents"

// crowdHosts is how many hosts a crowd is on.
const crowdHosts = 3

// crowdPort is where the collector listens.
const crowdPort = ":7200"

// daemons are the processes of all hosts that a network's own work is done in.
type daemons struct{ dockerd, agents []int }

func (b *bench) daemons(ctx context.Context) (d daemons, err error) {
	for _, h := range b.lab.Hosts() {
		c, err := docker(h)
		if err != nil {
			return d, err
		}
		pid, err := listener(ctx, c.dial)
		if err != nil {
			return d, fmt.Errorf("dockerd of %s: %w", h.Name(), err)
		}
		d.dockerd = append(d.dockerd, pid)
		near, err := h.AgentDialer(ctx)
		if err == nil {
			pid, err = listener(ctx, near)
		}
		if err != nil {
			return d, fmt.Errorf("agent of %s: %w", h.Name(), err)
		}
		d.agents = append(d.agents, pid)
	}
	return d, nil
}

// crowd starts many containers on three hosts at once, one after the other on each, on one overlay after the
// other, and takes how long each took from the call to Docker until it reached a container of the first host.
func (b *bench) crowd(ctx context.Context, all *samples) error {
	if b.Crowd == 0 {
		return nil
	}
	d, err := b.daemons(ctx)
	if err != nil {
		return err
	}
	reached, last, processor := sample{}, sample{}, sample{}
	for _, path := range overlays {
		if err := b.crowdOn(ctx, path, d, reached, last, processor); err != nil {
			return fmt.Errorf("%d containers on %s: %w", b.Crowd, titles[path], err)
		}
	}
	all.crowdReached, all.crowdLast, all.crowdProcessor = []sample{reached}, []sample{last}, []sample{processor}
	return nil
}

func (b *bench) crowdOn(ctx context.Context, path string, d daemons, reached, last, processor sample) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*patience+time.Duration(b.Crowd)*3*time.Second)
	defer cancel()
	to := "bench-collector-" + path
	if _, err := b.client().Docker(ctx, "run", "-d", "--name", to, "--net", dockerNetwork[path], lab.BusyBoxImage, "sleep", "86400"); err != nil {
		return err
	}
	addr, err := b.addressOf(ctx, b.client(), path, to)
	if err != nil {
		return err
	}
	if err := b.eachOf(func(h *lab.Host, _ int, name string) error {
		_, err := h.Docker(ctx, "create", "--name", name, "--net", dockerNetwork[path], lab.BusyBoxImage, "probe", "arrive", addr.String()+crowdPort, name)
		return err
	}, path); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.eachOf(func(h *lab.Host, _ int, name string) error {
			_, err := h.Docker(context.WithoutCancel(ctx), "rm", "-f", name)
			return err
		}, path))
	}()
	collected := make(chan error, 1)
	arrived := map[string]time.Time{}
	go func() {
		out, err := b.client().Docker(ctx, "exec", to, "probe", "collect", "-addr", crowdPort, "-for", (3 * patience).String(), fmt.Sprint(b.Crowd))
		collected <- errors.Join(err, json.Unmarshal([]byte(out), &arrived))
	}()
	time.Sleep(time.Second) // until the collector listens; who comes before tries again
	dockerd, err := ran(d.dockerd)
	agents, err2 := ran(d.agents)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	begun := make([]time.Time, b.Crowd)
	names := make([]string, b.Crowd)
	began := time.Now()
	if err := b.eachOf(func(h *lab.Host, i int, name string) error {
		begun[i], names[i] = time.Now(), name
		_, err := h.Docker(ctx, "start", name)
		return err
	}, path); err != nil {
		return err
	}
	if err := <-collected; err != nil {
		return err
	}
	dockerdNow, err := ran(d.dockerd)
	agentsNow, err2 := ran(d.agents)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	var took []float64
	for i, name := range names {
		at, ok := arrived[name]
		if !ok {
			return fmt.Errorf("%s did not reach the first host within %s", name, 3*patience)
		}
		took = append(took, at.Sub(begun[i]).Seconds())
		last[path] = max(last[path], at.Sub(began).Seconds())
	}
	reached[path] = median(took)
	each := func(d time.Duration) float64 { return d.Seconds() / float64(b.Crowd) }
	processor[path] = each(dockerdNow - dockerd)
	if path == overWeft {
		processor[overAgents] = each(agentsNow - agents)
		processor[path] += processor[overAgents]
	}
	return nil
}

// eachOf does something about each container of a crowd, on all hosts at once and one after the other on each.
func (b *bench) eachOf(do func(h *lab.Host, i int, name string) error, path string) error {
	errs := make([]error, crowdHosts)
	var all sync.WaitGroup
	for n, h := range b.lab.Hosts() {
		all.Go(func() {
			for i := n; i < b.Crowd && errs[n] == nil; i += crowdHosts {
				errs[n] = do(h, i, fmt.Sprintf("bench-crowd-%s-%d", path, i))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
