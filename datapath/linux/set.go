package linux

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// setBatch is how many operations of a Set are in memory.
const setBatch = 8192

// rounds is how often Set reads again after it has changed devices: the entries of a device can
// be read only once it is right.
const rounds = 3

// Set makes the overlay equal to want: it reads the kernel, changes what differs, and reads
// again what became of the devices. Repeated, it only reads. Ports that Plug added stay until
// Unplug, whatever an older state says. Set tries everything and then returns an error that
// names what failed; a network that fails does not affect the others.
func (k *Kernel) Set(ctx context.Context, want datapath.State) (Report, error) {
	release, err := enter(ctx, k.setting)
	if err != nil {
		return Report{}, err
	}
	defer release()
	var report Report
	for range rounds {
		again, err := k.round(ctx, want, &report)
		if err != nil {
			return report, err
		}
		if !again {
			break
		}
	}
	err = k.locked(ctx, func() error {
		if k.filled {
			return nil // changes keep it so
		}
		return k.fillGuard(k.ports.goal(want), &report)
	})
	return report, errors.Join(report.err(), err)
}

// Apply carries out operations that follow from a change, in order, without reading the kernel.
// What Plug and Unplug did since they were computed stays. Apply tries everything and then
// returns an error that names what failed; a network that fails does not affect the others.
func (k *Kernel) Apply(ctx context.Context, ops []datapath.Op) (Report, error) {
	release, err := enter(ctx, k.setting)
	if err != nil {
		return Report{}, err
	}
	defer release()
	var report Report
	err = k.locked(ctx, func() error {
		k.ports.carried(ops)
		err := k.ensure()
		report.Notes = slices.Clone(k.notes)
		return err
	})
	if err != nil {
		return report, err
	}
	if _, err := k.carryOut(ctx, ops, map[netmap.VNI]bool{}, &report); err != nil {
		return report, err
	}
	return report, report.err()
}

// round reads once and carries out what follows. It reports whether to read again.
func (k *Kernel) round(ctx context.Context, want datapath.State, report *Report) (again bool, err error) {
	ops, err := k.plan(ctx, want, report)
	if err != nil {
		return false, err
	}
	report.Failed, report.Missing = nil, nil // of the last round
	broken := map[netmap.VNI]bool{}
	for some := range datapath.Batches(ops, setBatch) {
		changed, err := k.carryOut(ctx, some, broken, report)
		if err != nil {
			return false, err
		}
		again = again || changed
	}
	return again, nil
}

// carryOut leaves out the networks that are broken. It reports whether it changed a device.
func (k *Kernel) carryOut(ctx context.Context, ops []datapath.Op, broken map[netmap.VNI]bool, report *Report) (changed bool, err error) {
	entries := func(op datapath.Op) bool { return op.Object >= datapath.ATunnel && op.Object <= datapath.ANeighbour }
	for len(ops) > 0 {
		n := 1
		if entries(ops[0]) {
			n = slices.IndexFunc(ops, func(op datapath.Op) bool { return !entries(op) })
			if n < 0 {
				n = len(ops)
			}
			err = k.tables(ctx, ops[:n], broken, report)
		} else {
			var did bool
			did, err = k.step(ctx, ops[0], broken, report)
			changed = changed || did
		}
		if err != nil {
			return false, err
		}
		ops = ops[n:]
	}
	return changed, nil
}

// plan reads the kernel while Plug and Unplug may change it. What they change is taken into
// account when the plan is carried out.
func (k *Kernel) plan(ctx context.Context, want datapath.State, report *Report) (iter.Seq[datapath.Op], error) {
	var reader *space
	err := k.locked(ctx, func() error {
		err := k.ensure()
		reader, report.Notes = k.reader, slices.Clone(k.notes)
		return err
	})
	if err != nil {
		return nil, err
	}
	have, err := reader.read()
	if err != nil {
		return nil, err
	}
	err = k.locked(ctx, func() error {
		k.ports.forget(want)
		want = k.ports.goal(want)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return datapath.Steps(have, want), nil
}

// step carries out one operation on a device.
func (k *Kernel) step(ctx context.Context, op datapath.Op, broken map[netmap.VNI]bool, report *Report) (did bool, err error) {
	end, err := enter(ctx, k.turn)
	if err != nil {
		return false, err
	}
	defer end()
	if broken[op.Device.VNI] || k.ports.outdated(op) {
		return false, nil
	}
	err = k.device(op)
	switch {
	case errors.Is(err, errNoPort):
		report.Missing = append(report.Missing, op.Port.Endpoint)
		return false, nil
	case err != nil:
		report.Failed = append(report.Failed, Failure{op, err})
		broken[op.Device.VNI] = op.Verb == datapath.Add && op.Object != datapath.APort
		return false, nil
	}
	k.did(op, report)
	return true, nil
}

// tables carries out operations on entries, one batch at a time.
func (k *Kernel) tables(ctx context.Context, ops []datapath.Op, broken map[netmap.VNI]bool, report *Report) error {
	var links map[string]int
	for batch := range slices.Chunk(ops, batchSize) {
		err := k.locked(ctx, func() (err error) {
			if links == nil {
				if links, err = k.overlay.indexes(ops); err != nil {
					return err
				}
			}
			return k.entries(batch, links, broken, report)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) locked(ctx context.Context, fn func() error) error {
	end, err := enter(ctx, k.turn)
	if err != nil {
		return err
	}
	defer end()
	return fn()
}

func (k *Kernel) entries(ops []datapath.Op, links map[string]int, broken map[netmap.VNI]bool, report *Report) error {
	batch := make([]entry, 0, len(ops))
	for _, op := range ops {
		// If the device is missing, only the device is reported.
		if e, ok := newEntry(op, links); ok && !broken[op.Device.VNI] && !k.ports.outdated(op) {
			batch = append(batch, e)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	answers, err := k.overlay.send(batch)
	if err != nil {
		return err
	}
	done := make([]datapath.Op, len(batch))
	for i, e := range batch {
		done[i] = e.op
	}
	k.guardEntries(done)
	for i, e := range batch {
		if answers[i] != nil {
			report.Failed = append(report.Failed, Failure{e.op, answers[i]})
			continue
		}
		k.did(e.op, report)
	}
	return nil
}

func (k *Kernel) did(op datapath.Op, report *Report) {
	report.Done++
	if k.cfg.Did != nil {
		k.cfg.Did(op)
	}
}

// fewOps is up to how many operations their devices are looked up one by one. A list of all
// devices costs more if there are many.
const fewOps = 16

// indexes returns the interface indexes of the devices that operations on entries need, by
// name. Those that do not exist are left out.
func (s *space) indexes(ops []datapath.Op) (map[string]int, error) {
	if len(ops) > fewOps {
		return s.names()
	}
	out := map[string]int{}
	for _, op := range ops {
		name := tableOf(op)
		if _, known := out[name]; known {
			continue
		}
		l, err := s.link(name)
		if err != nil {
			return nil, fmt.Errorf("linux: find device %s of the overlay: %w", name, err)
		}
		if l != nil {
			out[name] = l.Attrs().Index
		}
	}
	return out, nil
}

func (s *space) names() (map[string]int, error) {
	links, err := retry(s.LinkList)
	if err != nil {
		return nil, fmt.Errorf("linux: list the devices of the overlay: %w", err)
	}
	out := make(map[string]int, len(links))
	for _, l := range links {
		out[l.Attrs().Name] = l.Attrs().Index
	}
	return out, nil
}

// err returns one error for all failures, which names the first few.
func (r Report) err() error {
	if len(r.Failed) == 0 {
		return nil
	}
	const show = 5
	var errs []error
	for _, f := range r.Failed[:min(show, len(r.Failed))] {
		errs = append(errs, f)
	}
	if more := len(r.Failed) - show; more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	return fmt.Errorf("linux: the overlay is not what it should be: %w", errors.Join(errs...))
}
