package plugin_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
)

// keepers waits until so many hosts vote, and tells those from the others.
func (c *cluster) keepers(n int) (keep, rest []*host) {
	c.t.Helper()
	first := c.hosts[0]
	first.until("the keepers vote", time.Minute, func() bool { return len(first.Report().Ledger.Keepers) == n })
	for _, h := range c.hosts {
		if strings.Contains(fmt.Sprint(first.Report().Ledger.Keepers), h.Report().Self.String()) {
			keep = append(keep, h)
		} else {
			rest = append(rest, h)
		}
	}
	return keep, rest
}

// off ends a host for good, and waits until the others notice.
func off(from *host, lost ...*host) []string {
	from.c.t.Helper()
	var words []string
	for _, h := range lost {
		words = append(words, h.Report().Self.String())
		h.stop()
	}
	for _, h := range from.c.hosts {
		if h.Agent != nil { // a recovery asks them all
			h.until("they are noticed", 2*time.Minute, func() bool { return alive(h) == len(h.c.hosts)-stopped(h.c) })
		}
	}
	return words
}

func stopped(c *cluster) (n int) {
	for _, h := range c.hosts {
		if h.Agent == nil {
			n++
		}
	}
	return n
}

func (h *host) recovery(off []string) (string, error) {
	return h.RecoverLedger(h.c.t.Context(), api.Recovery{Off: off})
}

// recovered is the answer of a recovery as soon as no other host sees the lost ones any
// more.
func (h *host) recovered(gone []string) (text string) {
	h.c.t.Helper()
	h.until("the ledger is recovered", time.Minute, func() bool {
		var err error
		text, err = h.recovery(gone)
		return err == nil
	})
	return text
}

// TestRecoverRefusesWhatItCannotKnow: a recovery is refused if the ledger works, if a majority of the
// keepers is alive, if the operator did not confirm that keepers are off, and if what he confirms is
// wrong.
func TestRecoverRefusesWhatItCannotKnow(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 5, unreplicated)
		keep, _ := c.keepers(5)
		begin := time.Now()
		_, err := keep[0].recovery(nil)
		fails(t, begin, err, "the ledger works")
		_, err = keep[0].recovery([]string{"host-9"})
		fails(t, time.Now(), err, "no host", "host-9")
		gone := off(keep[0], keep[3], keep[4])
		_, err = keep[0].recovery(gone)
		fails(t, time.Now(), err, "the ledger works")
		gone = append(gone, off(keep[0], keep[2])...)
		begin = time.Now()
		_, err = keep[0].recovery(nil)
		fails(t, begin, err, "cannot be known from here", "--is-off "+keep[2].set.Name, keep[3].set.Name, keep[4].set.Name)
		_, err = keep[0].recovery(gone[:2])
		fails(t, time.Now(), err, "cannot be known from here", keep[2].set.Name)
		_, err = keep[0].recovery(append([]string{keep[1].Report().Self.String()}, gone...))
		fails(t, time.Now(), err, keep[1].set.Name, "is not off: it answers")
		text, err := keep[0].RecoverLedger(t.Context(), api.Recovery{Off: gone, DryRun: true})
		if err != nil || !holds(text, "nothing was changed", keep[2].set.Name, keep[1].set.Name) {
			t.Errorf("dry run: %q, %v", text, err)
		}
		if got := keep[0].View().Generation; got != 1 {
			t.Errorf("the dry run made generation %d", got)
		}
		// Keepers behind a cut are not lost: hosts on their side see them.
		keep[2].start()
		keep[0].until("the ledger works again", time.Minute, func() bool { return keep[0].Report().Ledger.Leader != [16]byte{} })
	})
}

// TestTheLedgerIsRecovered from one of three keepers and from a minority of five:
// what is held stays held, new blocks are given once all have declared theirs, and the
// usual number of keepers is found again.
func TestTheLedgerIsRecovered(t *testing.T) {
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				hosts := up(c, n+2, unreplicated)
				keep, rest := c.keepers(n)
				ids := map[*host]string{}
				for i, h := range hosts {
					ids[h] = h.network("web", "10.40.0.0/24")
					h.run(fmt.Sprintf("before-%d", i), ids[h], "")
				}
				survivors := keep[:(n-1)/2]
				gone := off(survivors[0], keep[(n-1)/2:]...)
				text := survivors[0].recovered(gone)
				if !holds(text, "new generation", "Removed") {
					t.Errorf("it says %q", text)
				}
				left := slices.Concat(survivors, rest)
				for i, h := range left {
					h.until("the new generation", 30*time.Second, func() bool {
						return h.View().Generation > 1 && h.Report().State == "ready" && len(h.Report().Problems) == 0
					})
					h.until("a further container", 20*time.Second, func() bool {
						_, err := h.docker.Run(t.Context(), fmt.Sprintf("after-%d", i), ids[h], netip.Addr{})
						return err == nil
					})
				}
				nobodyTwice(t, left)
				want := 3
				left[0].until("keepers again", 2*time.Minute, func() bool { return len(left[0].Report().Ledger.Keepers) >= want })
				// The hosts that were lost come back. There is no second majority, and no decision
				// of the old ledger counts.
				for _, h := range keep[(n-1)/2:] {
					h.start()
				}
				for _, h := range keep[(n-1)/2:] {
					h.reborn()
					h.until("the new generation", time.Minute, func() bool { return h.View().Generation == left[0].View().Generation })
				}
				time.Sleep(time.Minute)
				if got := len(leaders(c)); got != 1 {
					t.Errorf("%d leaders", got)
				}
				nobodyTwice(t, hosts)
			})
		})
	}
}

func leaders(c *cluster) (out []*host) {
	for _, h := range c.hosts {
		if h.Agent != nil && h.Report().Ledger.Role == "leader" {
			out = append(out, h)
		}
	}
	return out
}

// nobodyTwice checks invariant 1 for all Dockers.
func nobodyTwice(t *testing.T, hosts []*host) {
	t.Helper()
	seen := map[netip.Addr]string{}
	for _, h := range hosts {
		for _, c := range h.docker.Containers() {
			for _, a := range c.Addrs {
				if other, twice := seen[a.Addr()]; twice && c.Running {
					t.Errorf("%s is on %s and on %s", a.Addr(), other, h.set.Name)
				}
				if c.Running {
					seen[a.Addr()] = h.set.Name
				}
			}
		}
	}
}

// TestRecoveryWithNoKeeperLeft: the ledger is recovered from the facts that every host has.
func TestRecoveryWithNoKeeperLeft(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, unreplicated)
		one, two := hosts[0], hosts[1]
		one.run("a", one.network("web", "10.40.0.0/24"), "")
		id := two.network("web", "10.40.0.0/24")
		before := two.run("b", id, "")
		gone := off(two, one)
		begin := time.Now()
		_, err := two.recovery(nil)
		fails(t, begin, err, "cannot be known from here", "host-1")
		if _, err := two.recovery(gone); err != nil {
			t.Fatal(err)
		}
		two.until("it goes on", 20*time.Second, func() bool {
			_, err := two.docker.Run(t.Context(), "c", id, netip.Addr{})
			return err == nil
		})
		two.restart()
		two.ready()
		if got := two.run("d", id, ""); at(got) == at(before) {
			t.Error("an address twice")
		}
	})
}

// TestWhatOnlyTheLostKeepersKnewIsNotGivenTwice: a block that was granted while the
// survivor was cut off is declared by its holder before anything is granted anew.
func TestWhatOnlyTheLostKeepersKnewIsNotGivenTwice(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 5, unreplicated)
		keep, _ := c.keepers(5)
		ids := map[*host]string{}
		for _, h := range hosts {
			ids[h] = h.network("web", "10.40.0.0/24")
		}
		survivor, holder := keep[0], keep[1]
		c.net.Split(survivor.addr)
		holder.until("a leader without the survivor", 30*time.Second, func() bool {
			_, err := holder.docker.Run(t.Context(), "unknown", ids[holder], netip.Addr{})
			return err == nil
		})
		others := []*host{keep[2], keep[3], keep[4]}
		for i, h := range others {
			h.run(fmt.Sprintf("lost-%d", i), ids[h], "")
		}
		var gone []string
		for _, h := range others {
			gone = append(gone, h.Report().Self.String())
			h.stop()
		}
		holder.stop() // it is off too, and nobody says for good: it is no loss that it cannot be seen
		c.net.HealAll()
		survivor.until("all are noticed", 2*time.Minute, func() bool { return alive(survivor) == 1 })
		// Five keepers, three lost for good, one that is only down for the moment.
		_, err := survivor.recovery(gone)
		fails(t, time.Now(), err, holder.set.Name)
		holder.start()
		holder.until("both are there", time.Minute, func() bool { return alive(survivor) == 2 })
		// The holder knows more: it says so, and is the one to go on.
		_, err = survivor.recovery(gone)
		fails(t, time.Now(), err, holder.set.Name, "knows more", "run this there")
		if _, err := holder.recovery(gone); err != nil {
			t.Fatal(err)
		}
		survivor.until("the survivor goes on", time.Minute, func() bool {
			_, err := survivor.docker.Run(t.Context(), "new", ids[survivor], netip.Addr{})
			return err == nil
		})
		nobodyTwice(t, []*host{survivor, holder})
	})
}

// TestTheRecoveredLedgerWaitsForEveryHost: the holder of an unknown block is down
// during the recovery; nothing is granted before it came back or was removed.
func TestTheRecoveredLedgerWaitsForEveryHost(t *testing.T) {
	for _, returns := range []bool{true, false} {
		t.Run(fmt.Sprint("returns ", returns), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				up(c, 4, unreplicated)
				keep, rest := c.keepers(3)
				ids := map[*host]string{}
				holder, survivor := rest[0], keep[0]
				for _, h := range keep {
					ids[h] = h.network("web", "10.40.0.0/24")
				}
				c.net.Split(survivor.addr) // it hears of nothing that follows
				keep[1].until("a leader without the survivor", 30*time.Second, func() bool {
					_, err := keep[1].docker.Run(t.Context(), "x", ids[keep[1]], netip.Addr{})
					return err == nil
				})
				ids[holder] = holder.network("web", "10.40.0.0/24")
				unknown := holder.run("unknown", ids[holder], "")
				holderID := holder.Report().Self.String()
				holder.stop()
				gone := []string{keep[1].Report().Self.String(), keep[2].Report().Self.String()}
				keep[1].stop()
				keep[2].stop()
				c.net.HealAll()
				survivor.until("all are noticed", 2*time.Minute, func() bool { return alive(survivor) == 1 })
				if _, err := survivor.recovery(gone); err != nil {
					t.Fatal(err)
				}
				survivor.problem(time.Minute, "the ledger was recovered", holder.set.Name, "weft host rm")
				begin := time.Now()
				_, err := survivor.docker.Run(t.Context(), "new", ids[survivor], netip.Addr{})
				fails(t, begin, err, "the ledger was recovered", holder.set.Name)
				if returns {
					holder.start()
					holder.ready()
				} else if _, err := survivor.RemoveHost(t.Context(), api.Removal{Host: holderID, IsOff: true}); err != nil {
					t.Fatal(err)
				}
				survivor.until("it gives out again", time.Minute, func() bool {
					c, err := survivor.docker.Run(t.Context(), "new", ids[survivor], netip.Addr{})
					if err == nil && at(c) == at(unknown) && returns {
						t.Errorf("%s was given twice", at(c))
					}
					return err == nil
				})
				if !returns {
					holder.start()
					holder.reborn()
				}
				holder.run("more", ids[holder], "")
				nobodyTwice(t, []*host{survivor, holder})
			})
		})
	}
}

// TestTwoOperatorsRecoverAtOnce: on one side of a cut one of them is refused.
func TestTwoOperatorsRecoverAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 5, unreplicated)
		keep, _ := c.keepers(5)
		gone := off(keep[0], keep[2], keep[3], keep[4])
		type outcome struct{ err error }
		results := make(chan outcome, 2)
		for _, h := range keep[:2] {
			go func() {
				_, err := h.recovery(gone)
				results <- outcome{err}
			}()
		}
		worked := 0
		for range 2 {
			if r := <-results; r.err == nil {
				worked++
			} else {
				t.Logf("one was told: %v", r.err)
			}
		}
		if worked > 1 {
			t.Errorf("%d recoveries", worked)
		}
		if worked == 0 {
			keep[0].until("a later one works", 3*time.Minute, func() bool {
				_, err := keep[0].recovery(gone)
				return err == nil || holds(err.Error(), "the ledger works")
			})
		}
		for _, h := range keep[:2] {
			h.until("one generation", time.Minute, func() bool {
				return h.View().Generation > 1 && h.View().Generation == keep[0].View().Generation && len(h.Report().Problems) == 0
			})
		}
	})
}

// TestARecoveryRightAfterABoot waits until it is known whose the log on the disk is, and
// goes on from that, not from the facts alone, which know nothing of the past.
func TestARecoveryRightAfterABoot(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 4, unreplicated)
		keep, rest := c.keepers(3)
		survivor := keep[0]
		survivor.run("before", survivor.network("web", "10.40.0.0/24"), "")
		gone := off(survivor, keep[1:]...)
		rest[0].stop() // nobody is there who knows all
		time.Sleep(time.Minute)
		survivor.stop()
		if err := os.RemoveAll(survivor.config().Volatile); err != nil {
			t.Fatal(err)
		}
		survivor.start()
		if _, err := survivor.recovery(gone); err != nil {
			t.Fatal(err)
		}
		survivor.until("it goes on", time.Minute, func() bool { return survivor.View().Generation > 1 })
		past, err := survivor.History(t.Context(), api.HistoryQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range past.Lines {
			if l.What == "granted" && l.Host == survivor.set.Name {
				return
			}
		}
		t.Errorf("the past is forgotten: %+v", past.Lines)
	})
}
