package plugin

// stopping are the topics of problems that keep new containers from an address or from the
// network.
var stopping = []string{"removal", "underlay", "datapath", "gateway"}

// NotReady implements api.Agent. A host is ready if it is a member of a cluster, may hand out
// addresses, can write to its disk, and has set up the kernel. It need not reach the keepers at
// the moment, as it has blocks of its own.
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
	if a.dataplane.Health().LastSet.IsZero() {
		return "the kernel has not been set up yet"
	}
	return ""
}
