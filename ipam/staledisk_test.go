package ipam_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

// from is the agent on an older copy of its disk.
func (r *rig) from(old *ipamtest.Disk) *rig {
	r.Close()
	return boot(r.t, &rig{t: r.t, host: r.host, disk: old})
}

// inDoubt has the host hand out nothing but what was in use when it stopped.
func (r *rig) inDoubt() error {
	var why error = netmap.Refuse(netmap.NoQuorum, "nobody said that the disk is the newest")
	r.last.Store(true)
	r.barred.Store(&why)
	return why
}

// TestAnOlderCopyIsTold: whatever a host gave up since the copy of its disk, the facts
// deny it; of what came since, and of the newest disk, they deny nothing.
func TestAnOlderCopyIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		since func(t *testing.T, r, other *rig, id string)
		told  string // empty: nothing is wrong
	}{
		"nothing": {func(*testing.T, *rig, *rig, string) {}, ""},
		"an address of its block was ceded": {func(_ *testing.T, _, other *rig, id string) {
			other.get(id, "10.40.0.9")
		}, "10.40.0.9 was given to host"},
		"a claim of its own was ceded": {func(_ *testing.T, r, other *rig, id string) {
			r.release(id, "10.40.0.200")
			other.get(id, "10.40.0.200")
		}, "10.40.0.200 was given to host"},
		"a claim went back": {func(_ *testing.T, r, _ *rig, id string) {
			r.release(id, "10.40.0.200")
			time.Sleep(time.Hour)
		}, "10.40.0.200 went back"},
		"the subnet was released": {func(t *testing.T, r, _ *rig, _ string) {
			if err := r.NetworkDeleted(t.Context(), "net-10.40.0.0-24"); err != nil {
				t.Fatal(err)
			}
		}, "block 10.40.0.0/28 went back"},
		"a block came": {func(_ *testing.T, r, _ *rig, id string) {
			for range 20 {
				r.get(id, "")
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ipamtest.NewLedger()
				r, other := start(t, l, "one"), start(t, l, "two")
				id := r.network("10.40.0.0/24", "")
				other.network("10.40.0.0/24", "")
				r.get(id, "")
				r.get(id, "10.40.0.200")
				old := r.disk.Copy()
				c.since(t, r, other, id)
				if how, err := r.restart().Outdated(r.host.SubnetFacts); how != "" || err != nil {
					t.Errorf("of the newest disk: %q, %v", how, err)
				}
				how, err := r.from(old).Outdated(r.host.SubnetFacts)
				if err != nil || (how == "") != (c.told == "") || !strings.Contains(how, c.told) {
					t.Errorf("of the older one: %q, %v; want %q", how, err, c.told)
				}
			})
		})
	}
}

// TestInDoubtOnlyWhatWasInUseIsHandedOut: containers that ran when the host stopped, by
// a crash or in order, get their addresses back, and nobody another one but what was
// released last.
func TestInDoubtOnlyWhatWasInUseIsHandedOut(t *testing.T) {
	for name, inOrder := range map[string]bool{"crash": false, "in order": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, ipamtest.NewLedger(), "one")
				id := r.network("10.40.0.0/24", "")
				gone, last := r.hold(r.get(id, "")), r.hold(r.get(id, ""))
				one, two := r.hold(r.get(id, "")), r.hold(r.get(id, "10.40.0.9"))
				end := func(a string) {
					r.endpoints.Delete(netip.MustParseAddr(bare(a)))
					r.release(id, bare(a))
				}
				for _, a := range []string{gone, last} {
					time.Sleep(time.Hour)
					end(a)
				}
				time.Sleep(time.Hour)
				stop := func() {
					end(one)
					time.Sleep(10 * time.Second)
					end(two)
				}
				if inOrder {
					stop()
				}
				r = r.restart()
				for _, a := range []string{one, two} {
					if !inOrder {
						r.hold(a)
					}
				}
				why := r.inDoubt()
				if !inOrder {
					if got, err := r.ask(docker, id, ""); err != nil || got != last {
						t.Errorf("%s, %v; want %s", got, err, last)
					}
					if _, err := r.ask(docker, id, ""); !errors.Is(err, why) {
						t.Errorf("while the addresses are held another one is given: %v", err)
					}
					stop() // dockerd clears up what it finds at its start
				}
				if _, err := r.ask(docker, id, bare(gone)); !errors.Is(err, why) {
					t.Errorf("an address that nobody had: %v", err)
				}
				if _, err := r.ask(docker, id, "10.40.0.10"); !errors.Is(err, why) {
					t.Errorf("an address that nobody ever had: %v", err)
				}
				if got, err := r.ask(docker, id, "10.40.0.9"); err != nil || got != two {
					t.Errorf("%s, %v; want %s", got, err, two)
				}
				if got, err := r.ask(docker, id, ""); err != nil || got != one {
					t.Errorf("%s, %v; want %s", got, err, one)
				}
				if got, err := r.ask(docker, id, ""); !errors.Is(err, why) {
					t.Errorf("a third one is given: %s, %v", got, err)
				}
			})
		})
	}
}

// TestInDoubtTheFactsDecide: a disk that is old may be told so by any host.
func TestInDoubtTheFactsDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r, other := start(t, l, "one"), start(t, l, "two")
		id := r.network("10.40.0.0/24", "")
		other.network("10.40.0.0/24", "")
		had := r.get(id, "10.40.0.9")
		old := r.disk.Copy()
		r.release(id, bare(had))
		other.get(id, bare(had))
		r = r.from(old)
		why := r.inDoubt()
		r.release(id, bare(had))
		for _, want := range []string{"", bare(had)} {
			if got, err := r.ask(docker, id, want); !errors.Is(err, why) {
				t.Errorf("--ip %q: %s, %v; want a refusal", want, got, err)
			}
		}
	})
}

// TestARefusedRequestKeepsNothingBack: what was here before a start and is free stays so,
// however often a container is refused an address meanwhile.
func TestARefusedRequestKeepsNothingBack(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/28", "")
	a := r.get(id, "")
	r.release(id, a)
	r = r.restart()
	barred := errors.New("the lease ran out")
	r.barred.Store(&barred)
	if got, err := r.ask(docker, id, ""); err == nil {
		t.Errorf("%s was handed out, though nothing may be", got)
	}
	r.barred.Store(nil)
	if got := r.get(id, addrOf(a).String()); got != a {
		t.Errorf("%s, want %s", got, a)
	}
}
