package plugin_test

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/store"
)

// slowStore is a store whose writes wait until a channel is closed, if there is one.
type slowStore struct {
	*store.Store
	until *atomic.Pointer[chan struct{}]
}

type slowBucket struct {
	*store.Bucket
	until *atomic.Pointer[chan struct{}]
}

func (s slowStore) Bucket(name string) plugin.Bucket {
	return slowBucket{s.Store.Bucket(name), s.until}
}

func (b slowBucket) Commit(set map[string][]byte, del ...string) error {
	if until := b.until.Load(); until != nil {
		<-*until
	}
	return b.Bucket.Commit(set, del...)
}

// slowDisk is a cluster of seven of which only one of the keepers is left. What the
// disk of the slow host is to keep, it keeps when release was called.
type slowDisk struct {
	survivor, other, slow *host
	lost                  []*host
	ids                   map[*host]string
	until                 *atomic.Pointer[chan struct{}]
}

func onASlowDisk(c *cluster, subnet string) *slowDisk {
	untils := map[*host]*atomic.Pointer[chan struct{}]{}
	up(c, 7, unreplicated, func(h *host) {
		until := new(atomic.Pointer[chan struct{}])
		untils[h] = until
		h.deps.Store = func(dir string) (plugin.Store, error) {
			s, err := store.Open(dir)
			if err != nil {
				return nil, err
			}
			return slowStore{s, until}, nil
		}
	})
	keep, rest := c.keepers(5)
	s := &slowDisk{survivor: keep[0], lost: keep[1:], other: rest[0], slow: rest[1], until: untils[rest[1]]}
	s.ids = map[*host]string{s.other: s.other.network("web", subnet), s.slow: s.slow.network("web", subnet)}
	time.Sleep(15 * time.Second) // all know each other
	wait := make(chan struct{})
	s.until.Store(&wait)
	return s
}

func (s *slowDisk) release() {
	if until := s.until.Swap(nil); until != nil {
		close(*until)
	}
}

func (s *slowDisk) run(h *host, name string, want netip.Addr) error {
	_, err := h.docker.Run(h.c.t.Context(), name, s.ids[h], want)
	if err != nil {
		_ = h.docker.Remove(h.c.t.Context(), name)
	}
	return err
}

// recover loses the keepers while something is on its way to the slow disk.
func (s *slowDisk) recover() {
	s.survivor.recovered(off(s.survivor, s.lost...))
}

// TestABlockOnItsWayToASlowDiskIsShownToTheRecoveredLedger, which else would grant it to
// another host, too.
func TestABlockOnItsWayToASlowDiskIsShownToTheRecoveredLedger(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		s := onASlowDisk(c, "10.40.0.0/28")
		defer s.release()
		if err := s.run(s.slow, "early", netip.Addr{}); err == nil {
			t.Fatal("a container has an address before the block is on disk")
		}
		s.recover()
		got := 0
		for range 60 {
			if s.run(s.other, fmt.Sprintf("other%d", got), netip.Addr{}) == nil {
				got++
			}
			time.Sleep(time.Second)
		}
		s.release()
		late := 0
		s.slow.until("the slow one has some", time.Minute, func() bool {
			if s.run(s.slow, fmt.Sprintf("slow%d", late), netip.Addr{}) == nil {
				late++
			}
			return late == 2
		})
		nobodyTwice(t, []*host{s.other, s.slow})
		if got == 0 {
			t.Error("the other host got nothing, so nothing was proven")
		}
	})
}

// TestAnAddressOnItsWayToASlowDiskIsShownToTheRecoveredLedger: it is its owner's, and no
// reason to take the owner for a host that holds what is another's.
func TestAnAddressOnItsWayToASlowDiskIsShownToTheRecoveredLedger(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		s := onASlowDisk(c, "10.40.0.0/24")
		defer s.release()
		want := netip.MustParseAddr("10.40.0.200")
		if err := s.run(s.slow, "early", want); err == nil {
			t.Fatal("a container has an address before the claim is on disk")
		}
		s.recover()
		for range 60 {
			if s.run(s.other, "thief", want) == nil {
				t.Fatalf("%s was given to another host", want)
			}
			time.Sleep(time.Second)
		}
		if err := s.run(s.other, "any", netip.Addr{}); err != nil {
			t.Error(err)
		}
		s.release()
		s.slow.until("its owner has it", time.Minute, func() bool { return s.run(s.slow, "owner", want) == nil })
		nobodyTwice(t, []*host{s.other, s.slow})
	})
}
