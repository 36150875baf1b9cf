package ipamtest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Disk is an ipam.Disk in memory that can be made to fail or to take its time. It is
// safe for concurrent use.
type Disk struct {
	mu   sync.Mutex
	data map[string][]byte
	fail error
	gate chan struct{}
}

// NewDisk is an empty disk.
func NewDisk() *Disk { return &Disk{data: map[string][]byte{}} }

// Fail makes all further commits fail; nil ends that.
func (d *Disk) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

// Stall holds all further commits back until the returned function is called.
func (d *Disk) Stall() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.gate = gate
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.gate = nil
		close(gate)
	}
}

// Load implements ipam.Disk.
func (d *Disk) Load() (map[string][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.data), nil
}

// Commit implements ipam.Disk.
func (d *Disk) Commit(set map[string][]byte, del ...string) error {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	for k, v := range set {
		d.data[k] = bytes.Clone(v)
	}
	for _, k := range del {
		delete(d.data, k)
	}
	return nil
}

// Copy is another disk with the same content, as after a crash.
func (d *Disk) Copy() *Disk {
	data, _ := d.Load()
	return &Disk{data: data}
}

// Keys are the keys that begin with a prefix, sorted.
func (d *Disk) Keys(prefix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(d.data)), func(k string) bool { return !strings.HasPrefix(k, prefix) })
}
