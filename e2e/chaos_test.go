package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// chaosLasts is how long it lasts unless WEFT_CHAOS says something else.
const chaosLasts = 75 * time.Second

// chaos is a storm in which Docker is killed and links are cut too, and under which others talk to
// each other. All choices derive from one seed. What happens at the same time does not.
type chaos struct {
	*storm
	seed  uint64
	lasts time.Duration
	frail *lab.Host // its Docker runs without --live-restore: containers end with dockerd
	other string    // a second network, for network connect

	subnet6 netip.Prefix
	steady  []box // one on each host, for as long as the chaos lasts
	flows   []*flow
	before  []string // the traces on each host before Weft came

	cuts  []past
	epoch int      // how often the containers of the frail host have ended
	made  []made   // networks that churn has made
	lines []string // what was done

	removing sync.RWMutex // held for reading while a network comes and goes, see shortLived
}

// made is a network and the host on which a user made it.
type made struct {
	host *lab.Host
	name string
}

// TestIntegrationChaos kills agents and dockerds, disables plugins and cuts links on three hosts, all at the
// same time, while Docker starts, restarts, moves and removes containers and networks. Between hosts that no cut
// parts no packet is lost, and no connection breaks. Afterwards invariants 1, 2, 7, 8 and 11 hold as seen from outside.
func TestIntegrationChaos(t *testing.T) {
	long(t)
	s := onSpares(t)
	c := s.chaos()
	t.Cleanup(func() {
		if t.Failed() {
			c.tell()
		}
		t.Logf("to repeat it: make chaos T=%v SEED=%d", c.lasts, c.seed)
	})
	c.traffic()
	c.unleash()
	c.end()
	c.met()
	c.healed()
	c.carried()
	c.neverTwice()
	c.leavesNothing()
}

// chaos founds a cluster of three hosts, two with --live-restore.
func (s *scene) chaos() *chaos {
	s.t.Helper()
	seed, lasts := chaosSeed(s.t), chaosLasts
	if text := os.Getenv("WEFT_CHAOS"); text != "" {
		var err error
		lasts, err = time.ParseDuration(text)
		must(s.t, err)
	}
	s.t.Logf("chaos of %v with seed %d", lasts, seed)
	lent := s.lend(members)
	var before []string
	for _, h := range lent {
		before = append(before, s.traces(h))
	}
	s.t.Cleanup(func() {
		ctx := context.WithoutCancel(s.t.Context())
		_ = each(lent, func(h *lab.Host) error { return h.StopDocker(ctx) }) // the start says whether Docker is well
		if err := each(lent, func(h *lab.Host) error { return h.StartDocker(ctx) }); err != nil {
			s.t.Error(err)
		}
	})
	frail := lent[rand.New(rand.NewPCG(seed, 0)).IntN(members)]
	must(s.t, each(lent, func(h *lab.Host) error {
		if h == frail {
			return nil
		}
		return h.RestartDocker(s.t.Context(), "--live-restore")
	}))
	s.found(lent, "WEFT_LOG_LEVEL=debug")
	c := &chaos{seed: seed, lasts: lasts, frail: frail, before: before, subnet6: netip.MustParsePrefix("fd71:4::/64")}
	c.storm = s.storm("10.71.4.0/24", "/28", "--ipv6", "--subnet", c.subnet6.String())
	c.rough, c.excuses = true, append(slices.Clone(excuses), roughExcuses...)
	c.other = s.network(lent[1], "other", "--subnet", "10.71.5.0/24")
	c.steady = s.runOnAll(c.network, "steady", "--restart", "always")
	s.matrix(c.steady...)
	return c
}

// chaosSeed is SEED, or one of the tree, or a new one.
func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		must(t, err)
		return seed
	}
	if tree := os.Getenv("WEFT_TREE"); tree != "" {
		sum := sha256.Sum256([]byte(tree))
		return binary.BigEndian.Uint64(sum[:])
	}
	return uint64(time.Now().UnixNano())
}

// chance is one of the seed's sources of choices. Each is used by one goroutine.
func (c *chaos) chance(of int) *rand.Rand { return rand.New(rand.NewPCG(c.seed, uint64(of))) }

// did notes something that was done, and counts it.
func (c *chaos) did(kind, format string, args ...any) {
	c.tally(kind)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, fmt.Sprintf("%7.2f s %s %s", time.Since(c.began).Seconds(), kind, fmt.Sprintf(format, args...)))
}

// tell logs what was done.
func (c *chaos) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.lines {
		c.t.Log(line)
	}
	c.t.Logf("%s ran without --live-restore", c.frail.Name())
}

// met checks that every kind of fault was met, and everything that users do, and that commands of theirs worked.
func (c *chaos) met() {
	c.t.Helper()
	for _, f := range append(slices.Clone(faults), cutting...) {
		c.storm.met(f.name, 1)
	}
	for _, habit := range habits {
		c.storm.met(habit.name, 1)
	}
	c.storm.met("docker run", members)
}
