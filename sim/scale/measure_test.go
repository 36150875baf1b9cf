package scale_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	netnsfd "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// Figures of the measurements of one agent.
const (
	pace    = 100 * time.Millisecond // of ten events a second
	singles = 15                     // events one by one
	joins   = 11
)

func (s *stage) measure(c *cost) {
	began, used := time.Now(), s.processor()
	var err error
	s.id, err = s.docker.CreateNetwork(s.Context(), web)
	s.ok(err)
	s.run("first")
	overlay, err := netnsfd.GetFromPath(linux.DefaultPin)
	s.ok(err)
	kernel, err := netlink.NewHandleAt(overlay, unix.NETLINK_ROUTE)
	s.ok(err)
	s.until("the kernel has all endpoints", 5*time.Minute, func() bool {
		time.Sleep(time.Second) // a look costs a dump
		return entries(kernel) >= 2*s.hosts*s.endpoints
	})
	c.Fill, c.FillCPU = time.Since(began), s.processor()-used
	time.Sleep(s.window)
	c.Idle = s.idle()
	c.RSS, c.Peak = s.memory("VmRSS"), s.memory("VmHWM")
	c.JoinIdle = s.joins("idle")
	c.Event = s.events(overlay)
	s.busy(c)
	c.Peak = max(c.Peak, s.memory("VmHWM"))
}

// entries are those that lead to other hosts: of the VXLAN devices and of neighbours.
func entries(kernel *netlink.Handle) (n int) {
	for _, family := range []int{unix.AF_BRIDGE, unix.AF_INET} {
		list, _ := kernel.NeighList(0, family) // interrupted dumps are short: it is looked at again
		for _, e := range list {
			if e.IP != nil {
				n++
			}
		}
	}
	return n
}

// processor is how long the agent has run so far: clock_getcpuclockid(3).
func (s *stage) processor() time.Duration {
	var t unix.Timespec
	s.ok(unix.ClockGettime(int32(^s.pid<<3|2), &t))
	return time.Duration(t.Nano())
}

// memory is a line of /proc/PID/status in bytes.
func (s *stage) memory(what string) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	s.ok(err)
	_, after, _ := strings.Cut(string(text), what+":")
	var kib uint64
	_, err = fmt.Sscan(after, &kib)
	s.ok(err)
	return kib << 10
}

// idle is the share of a core that the agent takes while nothing happens but what hosts do
// by themselves: each renews its lease once an hour.
func (s *stage) idle() float64 {
	used, began := s.processor(), time.Now()
	renewals := int(s.window * time.Duration(s.hosts) / time.Hour)
	for n := range renewals + 1 {
		time.Sleep(s.window / time.Duration(renewals+1))
		if n < renewals {
			s.ask(state.Command{Kind: state.KindRenew, Host: hostID(1 + n)})
		}
	}
	return float64(s.processor()-used) / float64(time.Since(began))
}

// run starts a container on the measured host and says how long the agent took for Join.
func (s *stage) run(name string) (took time.Duration) {
	s.docker.After = func(c plugintest.Call) {
		if c.Method == "NetworkDriver.Join" {
			took = c.Took
		}
	}
	_, err := s.docker.Run(s.Context(), name, s.id, netip.Addr{})
	s.ok(err)
	return took
}

func (s *stage) joins(name string) quantiles {
	var took []time.Duration
	for i := range joins {
		took = append(took, s.run(fmt.Sprintf("%s-%d", name, i)))
		time.Sleep(5 * pace)
	}
	return quantilesOf(took)
}

func quantilesOf(took []time.Duration) quantiles {
	slices.Sort(took)
	return quantiles{P50: took[len(took)/2], P99: took[(len(took)*99-1)/100]}
}

// announce has the peer announce one endpoint more.
func (s *stage) announce() netmap.Endpoint {
	e := invented(s.network, s.hosts+1, s.said)
	e.Name = ""
	s.said++
	s.ok(s.gossip.Announce(e.Facts(), nil))
	return e
}

// events are announced one by one; each takes until both entries for it are in the kernel.
func (s *stage) events(overlay netnsfd.NsHandle) quantiles {
	updates, done := make(chan netlink.NeighUpdate, 1024), make(chan struct{})
	defer close(done)
	s.ok(netlink.NeighSubscribeWithOptions(updates, done, netlink.NeighSubscribeOptions{
		Namespace: &overlay, ReceiveBufferSize: 4 << 20, ReceiveBufferForceSize: true,
	}))
	var took []time.Duration
	for range singles {
		time.Sleep(7 * pace)
		begin, e := time.Now(), s.announce()
		limit := time.After(2 * time.Minute)
		for left := map[netip.Addr]bool{e.V4: true, peerAddr: true}; len(left) > 0; {
			select {
			case u := <-updates:
				if at, ok := netip.AddrFromSlice(u.IP); ok && u.HardwareAddr.String() == e.MAC.String() {
					delete(left, at.Unmap())
				}
			case <-limit:
				s.Fatalf("an event is not in the kernel: %v", left)
			}
		}
		took = append(took, time.Since(begin))
	}
	return quantilesOf(took)
}

// busy has the peer announce or withdraw ten endpoints a second, first beside nothing else,
// then while containers start.
func (s *stage) busy(c *cost) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		tick, n := time.NewTicker(pace), 0
		defer tick.Stop()
		var last netmap.Endpoint
		for ; ; n++ {
			select {
			case <-stop:
				close(ended)
				return
			case <-tick.C:
			}
			if n%2 == 0 {
				last = s.announce()
			} else if err := s.gossip.Announce(nil, []netmap.Key{netmap.EndpointKey(last.ID)}); err != nil {
				s.Error(err)
			}
		}
	}()
	time.Sleep(5 * pace)
	used, began := s.processor(), time.Now()
	time.Sleep(s.window)
	c.EventsCPU = float64(s.processor()-used) / float64(time.Since(began))
	c.EventCPU = time.Duration((c.EventsCPU - c.Idle) * float64(pace))
	c.JoinBusy = s.joins("busy")
	close(stop)
	<-ended
}
