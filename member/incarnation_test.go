package member

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store"
)

// disk is a state directory in memory. It implements Store.
type disk struct {
	identity store.Identity
	skipped  uint64
	buckets  map[string]*ipamtest.Disk
}

func newDisk() *disk {
	return &disk{identity: store.Identity{Host: netmap.HostID{1}, Start: 1, Nonce: 11}, buckets: map[string]*ipamtest.Disk{}}
}

func (d *disk) bucket(name string) Disk {
	if d.buckets[name] == nil {
		d.buckets[name] = ipamtest.NewDisk()
	}
	return d.buckets[name]
}

// next is a copy of the disk as the agent's next start finds it.
func (d *disk) next(nonce uint64) *disk {
	was := d.identity
	out := &disk{identity: store.Identity{Host: was.Host, Start: was.Start + 1, Nonce: nonce}, buckets: map[string]*ipamtest.Disk{}}
	out.identity.Earlier = append([]store.Incarnation{{Start: was.Start, Nonce: was.Nonce}}, was.Earlier...)
	for name, b := range d.buckets {
		out.buckets[name] = b.Copy()
	}
	return out
}

func (d *disk) Identity() store.Identity             { return d.identity }
func (d *disk) Acknowledge(uint64) error             { return nil }
func (d *disk) Cluster() netmap.ClusterID            { return netmap.ClusterID{} }
func (d *disk) SetCluster(netmap.ClusterID) error    { return nil }
func (d *disk) NewIdentity() (store.Identity, error) { return d.identity, nil }

func (d *disk) SkipTo(start uint64) error {
	d.skipped = start
	return nil
}

// machine is where agents start one after the other.
type machine struct {
	boot, volatile string
	ended          int
	problems       map[string]string
}

func (at *machine) start(t *testing.T, d *disk) *Member {
	t.Helper()
	at.problems = map[string]string{}
	m, err := Open(Config{
		Name: "host-1", Store: d, Bucket: d.bucket, Volatile: at.volatile,
		Clocks:  func() (lease.Moment, error) { return lease.Moment{Boot: at.boot, Up: time.Hour, Wall: time.Now()}, nil },
		End:     func() { at.ended++ },
		Problem: func(topic, sentence string) { at.problems[topic] = sentence },
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAnOlderCopyOfTheDiskIsNoticed: the machine knows which incarnation was here last.
func TestAnOlderCopyOfTheDiskIsNoticed(t *testing.T) {
	const left, copied, older = "as it was left", "copied while the agent ran", "from before that start"
	for _, c := range []struct {
		disk     string
		killed   bool // the agent; else it ended in order
		booted   bool // the machine, since
		outdated bool // is wanted
	}{
		{disk: left},
		{disk: left, killed: true},
		{disk: left, booted: true},
		{disk: copied, outdated: true},
		{disk: older, outdated: true},
		{disk: older, killed: true, outdated: true},
	} {
		at := &machine{boot: "b1", volatile: t.TempDir()}
		first := newDisk()
		m := at.start(t, first)
		disks := map[string]*disk{copied: first.next(12), older: newDisk()}
		if !c.killed {
			m.Close()
		}
		disks[left] = first.next(12)
		disks[older].identity.Nonce = 12
		if c.booted {
			at.boot = "b2"
		}
		m = at.start(t, disks[c.disk])
		if outdated := m.lease.Fenced(); outdated != c.outdated || outdated != (at.problems["membership"] != "") {
			t.Errorf("%+v: it is outdated: %t; problems %v", c, outdated, at.problems)
		}
		if asks := m.LedgerConfig().Copied != nil; asks != c.booted {
			t.Errorf("%+v: it looks for another machine with this disk: %t", c, asks)
		}
	}
}

// TestAStartThatTheLedgerNeverAcceptedIsSkipped: others believe the later of two starts.
func TestAStartThatTheLedgerNeverAcceptedIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		at := &machine{boot: "b1", volatile: t.TempDir()}
		m := at.start(t, d)
		m.foundClone(gossip.Clone{Host: d.identity.Host, A: gossip.Member{Start: 9, Nonce: 99}, B: gossip.Member{Start: 1, Nonce: 11}})
		if start := m.newer(); start != 0 {
			t.Errorf("start %d is in the way at once: it may be about to ask the ledger", start)
		}
		time.Sleep(newerStays)
		if start := m.newer(); start != 9 {
			t.Errorf("start %d is in the way, want 9", start)
		}
		m.skipTo(m.newer())
		if d.skipped != 9 || at.ended != 1 {
			t.Errorf("it skips to %d and ends %d times, want 9 and 1", d.skipped, at.ended)
		}
	})
}
