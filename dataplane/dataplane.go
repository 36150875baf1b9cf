// Package dataplane keeps the kernel of a host equal to the facts: it tells the kernel what
// follows from each change, and looks from time to time whether somebody else changed it.
package dataplane

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
)

// Every is how often the kernel is compared with the facts although nothing is known to have
// changed: what somebody else deletes is back within 10 s.
const Every = 8 * time.Second

// Limit bounds one call of Follow.
const Limit = 30 * time.Second

// retryPause is how long after a failure the kernel is read and repaired.
const retryPause = 5 * time.Second

// checkShare is the part of a core that the comparison of tables may take: one of so many.
const checkShare = 200

// batch is how many operations the kernel is told at once: a network that the host joins may take
// 150,000.
const batch = 4096

// Kernel is what is told. linux.Kernel is one, behind the host's namespaces.
type Kernel interface {
	// Set makes the kernel equal to the state and returns how many operations that took.
	// Repeating it changes nothing.
	Set(ctx context.Context, s datapath.State) (int, error)
	// Apply carries out operations that follow from a change, without reading the kernel. It does
	// not keep them.
	Apply(ctx context.Context, ops []datapath.Op) error
	// Devices returns the devices and ports that the kernel has, without tables.
	Devices(ctx context.Context) (datapath.State, error)
	// Entries calls visit with the operation that adds each entry in the tables of a network.
	// Complete is false if entries may be missing.
	Entries(ctx context.Context, vni netmap.VNI, visit func(datapath.Op)) (complete bool, err error)
}

// Config says whose kernel it is.
type Config struct {
	Self    netmap.HostID
	Kernel  Kernel
	View    func() *netmap.View
	Local   func() datapath.Local
	NotYet  error             // of a kernel that cannot be told yet, which is no failure
	Wake    func()            // asks for a call of Follow
	Problem func(text string) // shows why the kernel does not hold what it should; "": it does
	// Restore makes ports again that somebody has deleted together with the interfaces of
	// containers, and returns how many; nil: they stay away. Those that it did not make it is told
	// again, and once none is missing any more.
	Restore func(ctx context.Context, ids []netmap.EndpointID) int
}

// Health is what `weft status` shows about the kernel's side.
type Health struct {
	LastSet  time.Time // zero: never
	Repaired uint64    // operations that undid what somebody else had changed
	Err      error
}

// Dataplane keeps the kernel equal to the facts. Follow is called by one goroutine; the other
// methods are safe for concurrent use.
type Dataplane struct {
	cfg   Config
	model *datapath.Model
	mtus  *datapath.MTUs
	// unknown says that the kernel may hold anything else than the model: it must be read, but
	// not before retry.
	unknown bool
	retry   time.Time
	checked netmap.VNI    // the network whose tables were compared last
	budget  time.Duration // for the comparison of tables; below zero it was exceeded
	lost    bool          // ports are missing that could not be made again

	mu        sync.Mutex
	health    Health
	plugged   map[netmap.EndpointID]datapath.Port // by this agent
	unplugged []datapath.Port                     // since Follow has looked
}

// New makes the data plane of a host whose kernel may hold anything.
func New(cfg Config) *Dataplane {
	return &Dataplane{cfg: cfg, model: datapath.NewModel(cfg.Self), mtus: datapath.NewMTUs(cfg.Self), plugged: map[netmap.EndpointID]datapath.Port{}}
}

// DeviceOf returns what the devices of one of the host's networks are made from, for a plug ahead of Follow.
func (d *Dataplane) DeviceOf(n netmap.Network, local datapath.Local) datapath.Device {
	return d.mtus.DeviceOf(d.cfg.View(), n, local)
}

// Concerned reports whether changes of the facts ask for a call of Follow: those of hosts, of networks, and of
// endpoints on a network that the kernel has. It is for the goroutine that calls Follow.
func (d *Dataplane) Concerned(c netmap.Changes) bool { return d.model.Concerned(c) }

// Health returns how the last operations went.
func (d *Dataplane) Health() Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.health
}

// Plugged notes that a port was plugged ahead of Follow. After a failure, whose attempt may have
// replaced entries, it has Follow assert again at once what others need.
func (d *Dataplane) Plugged(p datapath.Port, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.unplugged = append(d.unplugged, p)
		d.cfg.Wake()
		return
	}
	d.plugged[p.Endpoint] = p
}

// Unplugged notes that a port was unplugged, or that this failed half-way.
func (d *Dataplane) Unplugged(id netmap.EndpointID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.plugged[id]; ok {
		delete(d.plugged, id)
		d.unplugged = append(d.unplugged, p)
		d.cfg.Wake()
	}
}

// Follow carries out what has changed, and compares the kernel with the facts if that is due or
// an earlier operation failed.
//
// It reads whether the facts are synced before it reads the facts. In the other order, an
// incomplete view could count as complete, and working forwarding entries would be removed
// (invariant 7).
func (d *Dataplane) Follow(ctx context.Context, look follow.Look) {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	local := d.cfg.Local()
	ops, whole := d.model.Update(d.cfg.View(), local, d.takeUnplugged())
	if whole {
		d.unknown, d.retry = true, time.Time{}
	}
	d.apply(ctx, ops)
	switch {
	case d.unknown && time.Now().Before(d.retry):
		look.Again(time.Until(d.retry))
	case d.unknown:
		d.set(ctx, look)
	case look.Due:
		d.check(ctx, look)
	}
}

// apply carries out operations, as long as there is time; failures do not hold up the others.
func (d *Dataplane) apply(ctx context.Context, ops iter.Seq[datapath.Op]) {
	var failed error
	did := false
	for some := range datapath.Batches(ops, batch) {
		did = true
		if failed = cmp.Or(failed, d.cfg.Kernel.Apply(ctx, some), ctx.Err()); ctx.Err() != nil {
			break
		}
	}
	switch {
	case failed != nil:
		d.failed(failed)
	case did:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.health.LastSet = time.Now()
	}
}

// check compares the kernel with the model, in case somebody else changed it: the devices, and
// the tables of as many networks as the budget allows, one after the other.
func (d *Dataplane) check(ctx context.Context, look follow.Look) {
	have, err := d.cfg.Kernel.Devices(ctx)
	if err != nil {
		d.failed(err)
		return
	}
	right := d.model.HasDevices(have)
	d.budget = min(d.budget+Every/checkShare, Every/checkShare)
	vnis := d.model.VNIs()
	for range vnis {
		if !right || d.budget <= 0 {
			break
		}
		at, _ := slices.BinarySearch(vnis, d.checked+1)
		d.checked = vnis[at%len(vnis)]
		if right, err = d.checkTables(ctx, d.checked); err != nil {
			d.failed(err)
			return
		}
	}
	if !right {
		d.set(ctx, look)
	}
	if !right || d.lost {
		d.restore(ctx)
	}
}

// restore has ports made again that are still missing. Set cannot: their other ends belong into
// containers.
func (d *Dataplane) restore(ctx context.Context) {
	have, err := d.cfg.Kernel.Devices(ctx)
	if err != nil || d.cfg.Restore == nil || d.unknown {
		return // after a failure of Set there is another look
	}
	var missing []netmap.EndpointID
	for _, n := range d.model.State().Networks {
		there, _ := have.Network(n.VNI)
		for _, p := range n.Ports {
			if !slices.Contains(there.Ports, p) {
				missing = append(missing, p.Endpoint)
			}
		}
	}
	restored := d.cfg.Restore(ctx, missing)
	d.lost = restored < len(missing)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health.Repaired += uint64(restored)
}

// checkTables reports whether the tables of one network are right, as far as they can be read.
func (d *Dataplane) checkTables(ctx context.Context, vni netmap.VNI) (right bool, err error) {
	begin := time.Now()
	audit := d.model.Audit(vni)
	complete, err := d.cfg.Kernel.Entries(ctx, vni, audit.Entry)
	d.budget -= time.Since(begin)
	return !complete || audit.Right(), err
}

// set compares the whole kernel with the model and repairs it. If nothing of this host asked for
// that, what it changes is counted as a repair.
func (d *Dataplane) set(ctx context.Context, look follow.Look) {
	n, err := d.cfg.Kernel.Set(ctx, d.model.State())
	if err != nil {
		d.failed(err)
		if wait := time.Until(d.retry); wait > 0 {
			look.Again(wait)
		}
		return
	}
	d.mu.Lock()
	d.health.LastSet, d.health.Err = time.Now(), nil
	if !d.unknown {
		d.health.Repaired += uint64(n)
	}
	d.mu.Unlock()
	d.unknown = false
	d.cfg.Problem("")
}

// failed has the kernel read and repaired after retryPause.
func (d *Dataplane) failed(err error) {
	d.unknown, d.retry = true, time.Now().Add(retryPause)
	if errors.Is(err, d.cfg.NotYet) {
		d.retry = time.Time{} // at a first start: Docker calls within a second, and Plug makes the namespace
		return
	}
	d.mu.Lock()
	d.health.LastSet, d.health.Err = time.Now(), err
	d.mu.Unlock()
	d.cfg.Problem("the kernel does not carry out what the facts say: " + err.Error())
}

// takeUnplugged returns the ports that were unplugged since the last call.
func (d *Dataplane) takeUnplugged() []datapath.Port {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.unplugged
	d.unplugged = nil
	return out
}
