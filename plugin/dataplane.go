package plugin

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
)

// retryPause is how long after a failure the kernel is read and repaired.
const retryPause = 5 * time.Second

// checkShare is the part of a core that the comparison of tables may take: one of so many.
const checkShare = 200

// dataplane tells the kernel what follows from changes. Only reconcile uses it.
type dataplane struct {
	*Agent
	model *datapath.Model
	// unknown says that the kernel may hold anything else than the model: it must be read, but
	// not before retry.
	unknown bool
	retry   time.Time
	checked netmap.VNI    // the network whose tables were compared last
	budget  time.Duration // for the comparison of tables; below zero it was exceeded
}

// follow carries out what has changed, and compares the kernel with the facts if that is due or
// an earlier operation failed.
//
// It reads whether the facts are synced before it reads the facts. In the other order, an
// incomplete view could count as complete, and working forwarding entries would be removed
// (invariant 7).
func (d *dataplane) follow(ctx context.Context, look follow.Look) {
	ctx, cancel := context.WithTimeout(ctx, driftInterval)
	defer cancel()
	local := d.local()
	ops, whole := d.model.Update(d.gossip.View(), local, d.takeUnplugged())
	switch {
	case whole:
		d.unknown, d.retry = true, time.Time{}
	case len(ops) > 0:
		d.apply(ctx, ops)
	}
	switch {
	case d.unknown && time.Now().Before(d.retry):
		look.Again(time.Until(d.retry))
	case d.unknown:
		d.set(ctx, look)
	case look.Due:
		d.check(ctx, look)
	}
}

func (d *dataplane) apply(ctx context.Context, ops []datapath.Op) {
	if err := d.cfg.Kernel.Apply(ctx, ops); err != nil {
		d.failed(err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.datapath.lastSet = time.Now()
}

// check compares the kernel with the model, in case somebody else changed it: the devices, and
// the tables of as many networks as the budget allows, one after the other.
func (d *dataplane) check(ctx context.Context, look follow.Look) {
	have, err := d.cfg.Kernel.Devices(ctx)
	if err != nil {
		d.failed(err)
		return
	}
	right := d.model.HasDevices(have)
	d.budget = min(d.budget+driftInterval/checkShare, driftInterval/checkShare)
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
}

// checkTables reports whether the tables of one network are right, as far as they can be read.
func (d *dataplane) checkTables(ctx context.Context, vni netmap.VNI) (right bool, err error) {
	begin := time.Now()
	audit := d.model.Audit(vni)
	complete, err := d.cfg.Kernel.Entries(ctx, vni, audit.Entry)
	d.budget -= time.Since(begin)
	return !complete || audit.Right(), err
}

// set compares the whole kernel with the model and repairs it. If nothing of this host asked for
// that, what it changes is counted as a repair.
func (d *dataplane) set(ctx context.Context, look follow.Look) {
	n, err := d.cfg.Kernel.Set(ctx, d.model.State())
	if err != nil {
		d.failed(err)
		if wait := time.Until(d.retry); wait > 0 {
			look.Again(wait)
		}
		return
	}
	d.mu.Lock()
	d.datapath.lastSet, d.datapath.err = time.Now(), nil
	if !d.unknown {
		d.datapath.repaired += uint64(n)
	}
	d.mu.Unlock()
	d.unknown = false
	d.problem("datapath", "")
}

// failed has the kernel read and repaired after retryPause.
func (d *dataplane) failed(err error) {
	d.unknown, d.retry = true, time.Now().Add(retryPause)
	if errors.Is(err, errNoCaller) {
		d.retry = time.Time{} // at a first start: Docker calls within a second, and Plug makes the namespace
		return
	}
	d.mu.Lock()
	d.datapath.lastSet, d.datapath.err = time.Now(), err
	d.mu.Unlock()
	d.problem("datapath", "the kernel does not carry out what the facts say: "+err.Error())
}

// takeUnplugged returns the ports that were unplugged since the last call.
func (d *dataplane) takeUnplugged() []datapath.Port {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.unplugged
	d.unplugged = nil
	return out
}
