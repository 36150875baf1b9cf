package plugin_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin/plugintest"
)

// boots switches the machine on again after an hour, with its disk as it is by then.
func (h *host) boots(m *clocks) *host {
	h.c.t.Helper()
	m.reboot(time.Hour)
	return h.tick(m)
}

// TestAHostThatBootsAloneStartsWhatItHad: a host boots after a power cut, or after it was switched off in
// order, and reaches no other host. Its containers get their addresses. New addresses are refused until
// a keeper has confirmed that the disk is the newest, and the refusal says so.
func TestAHostThatBootsAloneStartsWhatItHad(t *testing.T) {
	for name, inOrder := range map[string]bool{"power cut": false, "in order": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				m := newClocks()
				h, network := leased(c, m)
				gone, fixed := h.run("gone", network, ""), h.run("fixed", network, "10.40.0.9")
				h.run("last", network, "")
				for _, name := range []string{"gone", "last"} {
					h.dockerDoes("rm", func(ctx context.Context) error { return h.docker.Remove(ctx, name) })
					time.Sleep(10 * time.Minute)
				}
				was := h.docker.Containers()
				h.cut()
				if inOrder {
					for _, one := range was {
						h.dockerDoes("stop", func(ctx context.Context) error { return h.docker.Stop(ctx, one.Name) })
					}
				}
				h.stop()
				h.boots(m)
				if !inOrder {
					h.dockerDoes("boot", func(ctx context.Context) error { return h.docker.Restart(ctx, false) })
				}
				for _, one := range was {
					if inOrder {
						h.run(one.Name, network, wanted(one))
					}
					if now, _ := h.docker.Find(one.Name); !now.Running || !slices.Equal(now.Addrs, one.Addrs) {
						t.Errorf("%s had %v and has %+v", one.Name, one.Addrs, now)
					}
				}
				if !inOrder {
					h.run("what was released last", network, "")
				}
				for what, ip := range map[string]string{"any": "", "what nobody has now": at(gone).String(), "what nobody had": "10.40.0.10"} {
					begin := time.Now()
					_, err := h.docker.Run(t.Context(), what, network, addr(ip))
					fails(t, begin, err, "was started since", "only the addresses that its containers had", "weft status", "host-1")
				}
				h.heal()
				h.until("a new address", time.Minute, func() bool {
					_, err := h.docker.Run(t.Context(), "after", network, addr(""))
					return err == nil
				})
				if now, _ := h.docker.Find("fixed"); !slices.Equal(now.Addrs, fixed.Addrs) {
					t.Errorf("--ip 10.40.0.9 has %+v", now)
				}
			})
		})
	}
}

// wanted is the --ip of a container, empty if there is none.
func wanted(c plugintest.Container) string {
	if !c.Want.IsValid() {
		return ""
	}
	return c.Want.String()
}

func (h *host) dockerDoes(what string, do func(context.Context) error) {
	h.c.t.Helper()
	if err := do(h.c.t.Context()); err != nil {
		h.c.t.Errorf("%s: %s: %v", h.set.Name, what, err)
	}
}

// older gives a host that is off an older copy of its disk, made before it ceded an address to the other
// host, and returns that address.
func (h *host) older(by *host, network string) (given string) {
	h.c.t.Helper()
	old := filepath.Join(h.c.dir, "old")
	h.copyDisk(old)
	by.until("the replica", 10*time.Second, func() bool { return by.lookup("web") != "" })
	given = at(h.run("probe", network, "")).Next().String() // the one that would come next
	h.dockerDoes("rm", func(ctx context.Context) error { return h.docker.Remove(ctx, "probe") })
	by.run("theirs", by.lookup("web"), given)
	h.stop()
	h.restoreDisk(old)
	return given
}

// TestAnOlderDiskThatBootsAloneGivesNothingTwice: a host with an older disk reaches no other host. It does
// not hand out the address that it has ceded since.
func TestAnOlderDiskThatBootsAloneGivesNothingTwice(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		m := newClocks()
		h, network := leased(c, m)
		given := h.older(c.hosts[0], network)
		h.cut()
		h.boots(m)
		h.dockerDoes("boot", func(ctx context.Context) error { return h.docker.Restart(ctx, false) })
		for _, ip := range []string{"", given} {
			begin := time.Now()
			_, err := h.docker.Run(t.Context(), "no", network, addr(ip))
			fails(t, begin, err, "only the addresses that its containers had")
		}
		h.heal()
		h.problem(time.Minute, "older copy", given+" was given to host", "weft host new-identity")
	})
}

// TestAnOlderDiskOfTheSameStartIsFoundOut: an older disk has every start that the ledger knows, but also an
// address that was given up since. The host hands out nothing until an operator decides, also after a
// restart.
func TestAnOlderDiskOfTheSameStartIsFoundOut(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		m := newClocks()
		h, network := leased(c, m)
		given := h.older(c.hosts[0], network)
		h.boots(m)
		for range 2 {
			h.problem(5*time.Second, "older copy", given+" was given to host", "weft host new-identity")
			begin := time.Now()
			_, err := h.docker.Run(t.Context(), "no", network, addr(""))
			fails(t, begin, err, "older copy")
			time.Sleep(2 * time.Hour) // no renewal lifts that
			_, err = h.docker.Run(t.Context(), "no", network, addr(given))
			fails(t, time.Now(), err, "older copy")
			h.stop()
			h.tick(m)
		}
		if _, err := h.NewIdentity(t.Context(), api.IdentityReset{}); err != nil {
			t.Fatal(err)
		}
		h.reborn()
		h.run("a host like any other", network, "")
	})
}

// TestTheWallClockMakesNoLeaseYounger: the wall clock was two days ahead when the renewal was sent, and is
// right after a boot.
func TestTheWallClockMakesNoLeaseYounger(t *testing.T) {
	for name, set := range map[string]func(h *host, m *clocks){
		"set ahead, then the renewal, then right after the boot": func(h *host, m *clocks) {
			m.step(48 * time.Hour)
			h.renews()
			h.cut()
			h.stop()
			m.step(-48 * time.Hour)
		},
		"ahead since the boot, set right after the renewal": func(h *host, m *clocks) {
			h.stop()
			m.step(48 * time.Hour)
			m.reboot(0)
			h.tick(m).ready()
			h.cut()
			m.step(-48 * time.Hour)
			time.Sleep(2 * time.Minute) // it is looked at now and then
			h.stop()
		},
		"set back between two agents of one boot": func(h *host, m *clocks) {
			m.step(48 * time.Hour)
			h.stop()
			h.tick(m).ready()
			h.cut()
			h.stop()
			m.step(-48 * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				m := newClocks()
				h, _ := leased(c, m)
				had, _ := h.docker.Find("before")
				set(h, m)
				m.reboot(30 * time.Hour)
				h.tick(m)
				h.dockerDoes("boot", func(ctx context.Context) error {
					_ = h.docker.Restart(ctx, false) // it does not start
					return nil
				})
				if now, _ := h.docker.Find("before"); now.Running {
					t.Errorf("a day after its renewal the host hands %s out", at(had))
				}
			})
		})
	}
}

// renews waits for the next renewal.
func (h *host) renews() {
	h.c.t.Helper()
	time.Sleep(time.Hour + 2*time.Minute)
	synctest.Wait()
	if slices.ContainsFunc(h.Report().Problems, func(p string) bool { return strings.Contains(p, "lease") }) {
		h.c.t.Errorf("no renewal: %q", h.Report().Problems)
	}
}

// TestAnOlderDiskOfTheSameStartIsFoundOutWithoutABoot, though nothing was given up
// since: a container that runs is on no record of it.
func TestAnOlderDiskOfTheSameStartIsFoundOutWithoutABoot(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		m := newClocks()
		h, network := leased(c, m)
		h.stop() // what it left when it ended then is on the copy
		h.tick(m).ready()
		old, newer := filepath.Join(c.dir, "old"), filepath.Join(c.dir, "newer")
		h.copyDisk(old)
		h.run("since", network, "")
		h.stop()
		h.copyDisk(newer)
		h.restoreDisk(old)
		for range 2 {
			h.tick(m)
			h.problem(5*time.Second, "older copy", "ended in order", "put the newer one back")
			_, err := h.docker.Run(t.Context(), "no", network, addr(""))
			fails(t, time.Now(), err, "older copy")
			h.stop()
		}
		h.restoreDisk(newer)
		h.tick(m).ready()
		h.run("as ever", network, "")
	})
}
