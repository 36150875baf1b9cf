package exact_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/store"
)

var (
	errPower = errors.New("the power is off")
	errFull  = errors.New("store: the disk of the state directory is full, nothing was changed")
)

// image is the synced content of a disk. Old disks and clones are copies of it.
type image struct {
	identity store.Identity
	cluster  netmap.ClusterID
	data     map[string][]byte // by "bucket key"
}

func (i image) copy() image {
	i.identity.Earlier = slices.Clone(i.identity.Earlier)
	i.data = maps.Clone(i.data)
	return i
}

// drive is a machine's disk: its synced content and the writes that wait for a sync.
type drive struct {
	image
	m      *machine
	queue  []*commit
	due    bool // a sync is on its way
	full   bool
	slower time.Duration
}

// commit is a write that is not synced yet.
type commit struct {
	life *life
	what string
	to   func(*image)
	done chan error
}

// enqueue adds an unsynced write, as a write system call does.
func (d *drive) enqueue(c *commit) {
	d.queue = append(d.queue, c)
	if spring := d.m.trap; spring != nil {
		d.m.trap = nil
		spring()
	}
	if d.due {
		return
	}
	d.due = true
	w := d.m.w
	w.after(w.between(20*time.Microsecond, 4*time.Millisecond)+d.slower, func() { d.due = false; d.sync() })
}

// sync puts one group of changes on disk, all or none, and then wakes their writers one
// after the other.
func (d *drive) sync() {
	w := d.m.w
	if len(d.queue) == 0 {
		return
	}
	n := 1 + w.dice.IntN(len(d.queue))
	group := d.queue[:n]
	d.queue = slices.Clone(d.queue[n:])
	var err error
	if d.full {
		err = errFull
		w.meet("write on a full disk")
	}
	for _, c := range group {
		if err == nil {
			c.to(&d.image)
		}
	}
	if n > 1 {
		w.meet("group commit")
	}
	for _, c := range group {
		w.note("%s: %s on disk: %v", d.m, c.what, err)
		c.done <- err
		w.calm()
	}
	if len(d.queue) > 0 && !d.due {
		d.due = true
		w.after(w.between(20*time.Microsecond, 4*time.Millisecond)+d.slower, func() { d.due = false; d.sync() })
	}
}

// crash decides which unsynced groups survive: a group survives whole, and only if all that
// were written before it do.
func (d *drive) crash() {
	w := d.m.w
	n := w.dice.IntN(len(d.queue) + 1)
	for _, c := range d.queue[:n] {
		c.to(&d.image)
		w.meet("written, and nobody was told")
	}
	if len(d.queue) > n {
		w.meet("write lost by a crash")
	}
	d.queue = nil
}

// rom is the store as one run of an agent sees it. It implements plugin.Store.
type rom struct {
	plugin.Store // what is not used here
	life         *life
	d            *drive
}

// open begins the next start of the identity and writes it to disk at once.
func (d *drive) open(l *life) *rom {
	id := &d.identity
	if id.Host.IsZero() {
		id.Host = d.m.w.newID()
	}
	d.begin()
	return &rom{life: l, d: d}
}

func (d *drive) begin() {
	id := &d.identity
	if id.Start > 0 {
		id.Earlier = slices.Insert(slices.Clone(id.Earlier), 0, store.Incarnation{Start: id.Start, Nonce: id.Nonce})
	}
	id.Start++
	id.Nonce = d.m.w.dice.Uint64()
}

func (w *world) newID() (id netmap.ID) {
	for i := range id {
		id[i] = byte(w.dice.Uint32())
	}
	return id
}

// write waits until a change is on disk.
func (r *rom) write(what string, to func(*image)) error {
	c := &commit{life: r.life, what: what, to: to, done: make(chan error, 1)}
	r.life.m.w.arrive(r.life.m.n, "disk "+what, func() {
		if r.life.m.life == r.life { // else the power is off
			r.d.enqueue(c)
		}
	})
	select {
	case err := <-c.done:
		return err
	case <-r.life.off:
		return errPower
	}
}

// Identity implements plugin.Store.
func (r *rom) Identity() store.Identity { return r.d.copy().identity }

// Cluster implements plugin.Store.
func (r *rom) Cluster() netmap.ClusterID { return r.d.cluster }

// Problem implements plugin.Store.
func (r *rom) Problem() string { return "" }

// SetCluster implements plugin.Store.
func (r *rom) SetCluster(id netmap.ClusterID) error {
	if r.d.cluster == id {
		return nil
	}
	return r.write("cluster", func(i *image) { i.cluster = id })
}

// Acknowledge implements plugin.Store.
func (r *rom) Acknowledge(start uint64) error {
	return r.write(fmt.Sprintf("acknowledged %d", start), func(i *image) {
		i.identity.Earlier = slices.DeleteFunc(slices.Clone(i.identity.Earlier), func(b store.Incarnation) bool { return b.Start < start || start >= i.identity.Start })
	})
}

// NewIdentity implements plugin.Store.
func (r *rom) NewIdentity() (store.Identity, error) {
	w := r.life.m.w
	err := r.write("identity", func(i *image) {
		i.identity = store.Identity{Host: w.newID(), Start: 1, Nonce: w.dice.Uint64()}
		w.meet("new identity")
	})
	return r.Identity(), err
}

// SkipTo implements plugin.Store.
func (r *rom) SkipTo(start uint64) error {
	w := r.life.m.w
	w.meet("outgrew a start that was never admitted")
	return r.write("outgrows", func(i *image) {
		if start > i.identity.Start {
			r.d.begin()
			i.identity.Start = start
		}
	})
}

// Close implements plugin.Store.
func (r *rom) Close() error { return nil }

// Bucket implements plugin.Store.
func (r *rom) Bucket(name string) plugin.Bucket { return bucket{r, name + " "} }

type bucket struct {
	r    *rom
	name string
}

// Load implements ipam.Disk.
func (b bucket) Load() (map[string][]byte, error) {
	out := map[string][]byte{}
	for k, v := range b.r.d.data {
		if key, ours := strings.CutPrefix(k, b.name); ours {
			out[key] = v
		}
	}
	return out, nil
}

// ScanReverse implements plugin.Bucket.
func (b bucket) ScanReverse(prefix string, visit func(key string, value []byte) bool) error {
	all, err := b.Load()
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		if strings.HasPrefix(key, prefix) && !visit(key, all[key]) {
			break
		}
	}
	return err
}

// Commit implements ipam.Disk.
func (b bucket) Commit(set map[string][]byte, del ...string) error {
	var what []string
	kept := map[string][]byte{}
	for _, k := range slices.Sorted(maps.Keys(set)) {
		kept[b.name+k] = bytes.Clone(set[k])
		what = append(what, k)
	}
	del = slices.Sorted(slices.Values(del))
	for _, k := range del {
		what = append(what, "-"+k)
	}
	return b.r.write(b.name+strings.Join(what, " "), func(i *image) {
		maps.Copy(i.data, kept)
		for _, k := range del {
			delete(i.data, b.name+k)
		}
	})
}
