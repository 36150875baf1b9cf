package plugin

// stopping are the topics of problems because of which containers that start get no
// address, or reach nobody.
var stopping = []string{"removal", "underlay", "datapath", "gateway"}

// NotReady implements status.Reporter. A host is ready if it is a member of a cluster, may
// hand out addresses, can write its disk, and has brought the kernel up to date. It need
// not reach the keepers now: its own blocks serve it meanwhile.
func (a *Agent) NotReady() string {
	if why := a.member.NotReady(); why != "" {
		return why
	}
	disk := a.store.Problem()
	a.mu.Lock()
	defer a.mu.Unlock()
	if disk != "" {
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
