package plugin_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/underlay/lossy"
)

const web = "10.40.0.0/24"

// TestAnOwnerCedesAFreeAddress: the owner of a block cedes a free address of it. For an address that is
// held it names the holder.
func TestAnOwnerCedesAFreeAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, unreplicated)
		a, b := hosts[0], hosts[1]
		onA, onB := a.network("web", web), b.network("elsewhere", web)
		held := a.run("web-1", onA, "").Addrs[0].Addr()
		free := held.Next().Next()

		got := b.run("db-1", onB, free.String())
		if got.Addrs[0].Addr() != free {
			t.Errorf("asked for %s, got %s", free, got.Addrs)
		}
		if owner := b.View().Owner(free); owner != b.Report().Self {
			t.Errorf("%s is answered, and the facts of this host still say that it is %s's", free, owner.Short())
		}
		begin := time.Now()
		_, err := b.docker.Run(t.Context(), "db-2", onB, held)
		fails(t, begin, err, held.String(), "held by", "host-1")
		// The owner gets the address back only when it is free on the other host too.
		begin = time.Now()
		_, err = a.docker.Run(t.Context(), "web-2", onA, free)
		fails(t, begin, err, free.String(), "held by", "host-2")
		if err := b.docker.Remove(t.Context(), "db-1"); err != nil {
			t.Fatal(err)
		}
		a.run("web-2", onA, free.String())
	})
}

// TestTheHolderIsNamedByItsContainer: a refusal has the name of the container if Docker has told it.
func TestTheHolderIsNamedByItsContainer(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		onA := hosts[0].network("web", web)
		held := hosts[0].run("shop", onA, "").Addrs[0].Addr()
		hosts[1].until("the replica", 10*time.Second, func() bool { return hosts[1].lookup("web") != "" })
		hosts[1].until("the name", 10*time.Second, func() bool {
			for _, e := range hosts[1].reported(web).Endpoints {
				if e.Name == "shop" {
					return true
				}
			}
			return false
		})
		begin := time.Now()
		_, err := hosts[1].docker.Run(t.Context(), "thief", hosts[1].lookup("web"), held)
		fails(t, begin, err, held.String(), "container shop", "host-1")
	})
}

// TestAnOwnerThatIsAwayIsNamed: the refusal names the owner that cannot be reached. It keeps its
// addresses.
func TestAnOwnerThatIsAwayIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 4)
		last := hosts[3]
		var networks []string
		for _, h := range hosts {
			h.until("the network", 10*time.Second, func() bool { return h.lookup("web") != "" || h == hosts[0] })
			if h == hosts[0] {
				h.network("web", web)
			}
			networks = append(networks, h.lookup("web"))
		}
		held := last.run("away", networks[3], "").Addrs[0].Addr()
		last.stop()
		for _, want := range []netip.Addr{held, held.Next()} {
			begin := time.Now()
			_, err := hosts[1].docker.Run(t.Context(), "late", networks[1], want)
			fails(t, begin, err, want.String(), "host-4")
		}
	})
}

// TestOneOfTwoGetsAnAddressThatBothWant: two hosts request one address at the same instant.
func TestOneOfTwoGetsAnAddressThatBothWant(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		for round := range 20 {
			want := netip.AddrFrom4([4]byte{10, 40, 0, byte(100 + 4*round)})
			won := make(chan bool, 2)
			for _, h := range hosts[1:] {
				if h.lookup("web") == "" {
					h.until("no replica under way", 10*time.Second, func() bool {
						if round == 0 && h == hosts[1] {
							h.network("web", web)
						}
						return h.lookup("web") != ""
					})
				}
				go func() {
					_, err := h.docker.Run(t.Context(), want.String(), h.lookup("web"), want)
					won <- err == nil
				}()
			}
			if first, second := <-won, <-won; first && second {
				t.Fatalf("both got %s", want)
			}
		}
	})
}

// TestWithoutAMajorityOnlyNewDecisionsFail: containers start from own blocks; a
// network that needs a decision is refused in time, with the keepers' names.
func TestWithoutAMajorityOnlyNewDecisionsFail(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		a := hosts[0]
		a.until("three keepers", time.Minute, func() bool { return len(a.Report().Ledger.Keepers) == 3 })
		id := a.network("web", web)
		a.run("before", id, "")
		hosts[1].stop()
		hosts[2].stop()
		time.Sleep(time.Minute)
		a.run("during", id, "")
		begin := time.Now()
		_, err := a.docker.CreateNetwork(t.Context(), named("more", "10.50.0.0/24"))
		fails(t, begin, err, "nothing can be decided", "host-2", "host-3")
		a.restart()
		a.run("alone", id, "")
		hosts[1].start()
		a.until("decisions are made again", 30*time.Second, func() bool {
			_, err := a.docker.CreateNetwork(t.Context(), named("more", "10.50.0.0/24"))
			return err == nil
		})
	})
}

// TestBlockSizesOfTheDriverReachTheLedger: Docker sends -o weft.block only with CreateNetwork, after the
// pool was requested.
func TestBlockSizesOfTheDriverReachTheLedger(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		spec := named("web", "10.40.0.0/16")
		spec.Shown.Options = map[string]string{"weft.block": "/26"}
		id, err := h.docker.CreateNetwork(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		h.run("web-1", id, "")
		for _, s := range h.reported("10.40.0.0/16").Subnets {
			for _, b := range s.Blocks {
				if b.Prefix.Bits() != 26 {
					t.Errorf("block %s", b.Prefix)
				}
			}
		}
		spec = named("bad", "10.41.0.0/16")
		spec.Shown.Options = map[string]string{"weft.block": "/nonsense"}
		begin := time.Now()
		_, err = h.docker.CreateNetwork(t.Context(), spec)
		fails(t, begin, err, "weft.block", "/nonsense")
		if got := h.reported("10.41.0.0/16"); got.ID != 0 {
			t.Errorf("the refused network exists: %+v", got)
		}
	})
}

// TestAnOwnerDoesNotClaimWhatItIsCeding: a host's Docker requests an address while the host's command
// to the ledger that cedes the address is under way. The simulation found that both were granted,
// because commands that are under way at the same time are decided in any order.
func TestAnOwnerDoesNotClaimWhatItIsCeding(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		leader, owner, thief := hosts[0], hosts[1], hosts[2]
		for _, h := range hosts {
			h.network("web", web)
		}
		mine := owner.run("shop", owner.lookup("web"), "").Addrs[0].Addr()
		want := mine.Next()
		time.Sleep(30 * time.Second)

		c.net.SetLink(owner.addr, leader.addr, lossy.Link{Delay: 400 * time.Millisecond})
		got := make(chan error, 2)
		go func() {
			_, err := thief.docker.Run(t.Context(), "thief", thief.lookup("web"), want)
			got <- err
		}()
		time.Sleep(100 * time.Millisecond) // the owner has given it up and tells the ledger, slowly
		c.net.SetLink(owner.addr, leader.addr, lossy.Link{Delay: 200 * time.Microsecond})
		go func() {
			_, err := owner.docker.Run(t.Context(), "late", owner.lookup("web"), want)
			got <- err
		}()
		if first, second := <-got, <-got; (first == nil) == (second == nil) {
			t.Errorf("%s was answered with %v and with %v, want one of them to get it", want, first, second)
		}
	})
}
