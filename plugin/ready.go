package plugin

import "cmp"

// stopping are the topics of problems because of which containers that start get no
// address, or reach nobody.
var stopping = []string{"removal", "underlay", "datapath", "gateway"}

// NotReady implements status.Reporter. A host is ready if it is a member of a cluster, may
// hand out addresses, can write its disk, and has brought the kernel up to date. It need
// not reach the keepers now: its own blocks serve it meanwhile.
func (a *Agent) NotReady() string {
	if a.leaving.now.Load() && !a.hasLeft() {
		return "this host is leaving the cluster (weft host leave)"
	}
	if a.hasLeft() {
		return a.departure()
	}
	state := a.state()
	_, _, right := a.lease.State()
	disk := a.store.Problem()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case state != "ready":
		return cmp.Or(a.problems["membership"], "this host is "+state+" a cluster")
	case right != nil:
		return right.Error()
	case disk != "":
		return disk
	}
	for _, topic := range stopping {
		if p := a.problems[topic]; p != "" {
			return p
		}
	}
	if a.datapath.lastSet.IsZero() {
		return "the kernel has not been set up yet"
	}
	return ""
}
