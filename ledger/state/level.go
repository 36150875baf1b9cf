package state

import (
	"cmp"
	"reflect"
	"strconv"

	"github.com/weftnet/weft/netmap"
)

// Level is the feature level of this release: which commands, fields and rules it knows. It
// is one more for each release that adds any. A cluster runs the lowest level of its members
// (State.Level), and nothing above that is proposed or written.
const Level = len(releases)

// releaseOf names the first release of a feature level.
func releaseOf(level int) string { return releases[min(level, Level)-1] }

// Level is the cluster's feature level: the lowest of its members. It never falls, since a
// host below it is not admitted.
func (s *State) Level() int { return max(s.level, 1) }

// raiseLevel follows what has become of the members, as far as a release knows: that of the
// leader, who alone says so. What members say of themselves may be forged, and nobody could
// read a ledger of a level that no release has.
func (s *State) raiseLevel(known int) {
	lowest := 0
	for _, h := range s.hosts {
		if level := max(h.Level, 1); !h.Removed && (lowest == 0 || level < lowest) {
			lowest = level
		}
	}
	s.level = max(s.level, min(lowest, max(known, 1)))
}

// checkRelease refuses a host whose release does not know what the cluster's log may have.
func (t *step) checkRelease(a *Admit) *netmap.Refusal {
	switch {
	case a.Level < 0 || a.Level > netmap.MaxLevel:
		return netmap.Refuse(netmap.BadInput, "host %s says that its release is of feature level %d; look at what runs there", t.cmd.Host.Short(), a.Level)
	case max(a.Level, 1) < t.Level():
		return netmap.Refuse(netmap.Outdated, "the release of weft on host %s is too old: it knows feature level %d, and cluster %s runs level %d, which stays; install release %s or a newer one there, as on the other hosts (weft status shows them)",
			cmp.Or(a.Name, t.cmd.Host.Short()), max(a.Level, 1), t.cluster, t.Level(), releaseOf(t.Level()))
	}
	return nil
}

// Since is the first feature level that knows a command: its kind and the fields that are set.
func (c Command) Since() int { return max(kinds[c.Kind].since, sinceOf(reflect.ValueOf(c))) }

// CheckLevel refuses a command that is above a cluster's feature level: some member could
// not apply it.
func (c Command) CheckLevel(cluster int) *netmap.Refusal {
	if cluster >= max(Level, kinds[c.Kind].since) { // nearly always: this release has no field above
		return nil
	}
	since := c.Since()
	if since <= cluster {
		return nil
	}
	return netmap.Refuse(netmap.Outdated, "%s needs feature level %d, and the cluster runs level %d until release %s or a newer one is on all hosts; weft status says which are missing", c.Kind, since, cluster, releaseOf(since))
}

// sinceOf is the first feature level that knows all fields that are set in a value. A field
// without a tag is known to all.
func sinceOf(v reflect.Value) int {
	level := 1
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return sinceOf(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			level = max(level, sinceOf(v.Index(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				since, _ := strconv.Atoi(v.Type().Field(i).Tag.Get("since")) // no tag: 0
				level = max(level, since, sinceOf(f))
			}
		}
	}
	return level
}
