package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
		near, err := h.AgentDialer(ctx)
		if err != nil {
			return d, err
		}
		dockerd, err := listener(ctx, c.dial)
		agent, agentErr := listener(ctx, near)
		if err := errors.Join(err, agentErr); err != nil {
			return d, fmt.Errorf("dockerd and agent of %s: %w", h.Name(), err)
		}
		d.dockerd, d.agents = append(d.dockerd, dockerd), append(d.agents, agent)
	}
	return d, nil
}

// ran is how long they have run so far.
func (d daemons) ran() (dockerd, agents time.Duration, err error) {
	if dockerd, err = ran(d.dockerd); err == nil {
		agents, err = ran(d.agents)
	}
	return dockerd, agents, err
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
	defer func() { err = errors.Join(err, b.dockerEach(context.WithoutCancel(ctx), path, "rm", "-f")) }()
	to, err := b.placeCrowd(ctx, path)
	if err != nil {
		return err
	}
	collected := make(chan error, 1)
	arrived := map[string]time.Time{}
	go func() {
		out, err := b.client().Docker(ctx, "exec", to, "probe", "collect", "-addr", crowdPort, "-for", (3 * patience).String(), fmt.Sprint(b.Crowd))
		collected <- errors.Join(err, json.Unmarshal([]byte(out), &arrived))
	}()
	time.Sleep(time.Second) // until the collector listens; who comes before tries again
	dockerd, agents, err := d.ran()
	if err != nil {
		return err
	}
	begun, began := make([]time.Time, b.Crowd), time.Now()
	if err := b.eachOf(path, func(h *lab.Host, i int, name string) error {
		begun[i] = time.Now()
		_, err := h.Docker(ctx, "start", name)
		return err
	}); err != nil {
		return err
	}
	if err := <-collected; err != nil {
		return err
	}
	dockerdNow, agentsNow, err := d.ran()
	if err != nil {
		return err
	}
	processor[path] = (dockerdNow - dockerd).Seconds() / float64(b.Crowd)
	if path == overWeft {
		processor[overAgents] = (agentsNow - agents).Seconds() / float64(b.Crowd)
		processor[path] += processor[overAgents]
	}
	return b.arrivals(path, arrived, began, begun, reached, last)
}

// placeCrowd makes the containers, and the one on the first host that they connect to.
func (b *bench) placeCrowd(ctx context.Context, path string) (collector string, err error) {
	collector = "bench-collector-" + path
	if _, err := b.client().Docker(ctx, "run", "-d", "--name", collector, "--net", dockerNetwork[path], lab.BusyBoxImage, "sleep", "86400"); err != nil {
		return "", err
	}
	addr, err := b.addressOf(ctx, b.client(), path, collector)
	if err != nil {
		return "", err
	}
	return collector, b.eachOf(path, func(h *lab.Host, _ int, name string) error {
		_, err := h.Docker(ctx, "create", "--name", name, "--net", dockerNetwork[path], lab.BusyBoxImage, "probe", "arrive", addr.String()+crowdPort, name)
		return err
	})
}

// arrivals takes how long the containers took, each from its start, and the last from the first one's.
func (b *bench) arrivals(path string, arrived map[string]time.Time, began time.Time, begun []time.Time, reached, last sample) error {
	var took []float64
	for i, start := range begun {
		at, ok := arrived[member(path, i)]
		if !ok {
			return fmt.Errorf("%s did not reach the first host within %s", member(path, i), 3*patience)
		}
		took = append(took, at.Sub(start).Seconds())
		last[path] = max(last[path], at.Sub(began).Seconds())
	}
	reached[path] = median(took)
	return nil
}

// member is the name of a container of a crowd.
func member(path string, i int) string { return fmt.Sprintf("bench-crowd-%s-%d", path, i) }

// dockerEach has Docker do the same to each container.
func (b *bench) dockerEach(ctx context.Context, path string, args ...string) error {
	return b.eachOf(path, func(h *lab.Host, _ int, name string) error {
		_, err := h.Docker(ctx, append(slices.Clip(args), name)...)
		return err
	})
}

// eachOf does something about each container of a crowd, on all hosts at once and one after the other on each.
func (b *bench) eachOf(path string, do func(h *lab.Host, i int, name string) error) error {
	errs := make([]error, crowdHosts)
	var all sync.WaitGroup
	for n, h := range b.lab.Hosts() {
		all.Go(func() {
			for i := n; i < b.Crowd && errs[n] == nil; i += crowdHosts {
				errs[n] = do(h, i, member(path, i))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
