package gossip

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Refused is a host that was refused, and why, in words for an operator.
type Refused struct {
	Addr   netip.AddrPort   `json:"addr"`
	Host   netmap.HostID    `json:"host"`
	Name   string           `json:"name,omitempty"`
	Mine   netmap.ClusterID `json:"mine"`
	Theirs netmap.ClusterID `json:"theirs"`
	Text   string           `json:"text"`
	First  time.Time        `json:"first"`
	Last   time.Time        `json:"last"`
	Count  uint64           `json:"count"`
}

// maxRefused bounds how many refused hosts are remembered, refusedFor how long after
// their last try: a host that wants in tries several times a minute.
const (
	maxRefused = 256
	refusedFor = 10 * time.Minute
)

// refusals remembers which hosts were refused, by address.
type refusals map[netip.AddrPort]Refused

func (r refusals) add(e event, own meta, now time.Time) Refused {
	old, known := r[e.addr]
	if !known {
		old.First = now
		r.makeRoom()
	}
	got := refusalOf(e, own)
	got.First, got.Last, got.Count = old.First, now, old.Count+1
	r[e.addr] = got
	return got
}

func refusalOf(e event, own meta) Refused {
	out := Refused{Addr: e.addr, Mine: own.Cluster}
	var version *protocolError
	switch theirs, err := decodeMeta(e.meta); {
	case errors.As(e.why, &version):
		out.Text = fmt.Sprintf("the host at %s %s", e.addr, version)
	case err != nil:
		out.Text = fmt.Sprintf("the host at %s cannot be understood: %v", e.addr, err)
	case errors.Is(e.why, errCrowded):
		out.Host, out.Name, out.Theirs = theirs.Host, theirs.Name, theirs.Cluster
		out.Text = fmt.Sprintf("host %s (%s) at %s %v", theirs.Name, theirs.Host.Short(), e.addr, errCrowded)
	default:
		out.Host, out.Name, out.Theirs = theirs.Host, theirs.Name, theirs.Cluster
		out.Text = fmt.Sprintf("host %s (%s) at %s belongs to cluster %s, this host (%s) to cluster %s; clusters that were "+
			"founded apart do not merge. To move a host over, stop its agent, empty its state directory (weft cleanup) and start it "+
			"with WEFT_JOIN naming a host of the other cluster; to keep both, take each other's addresses out of WEFT_JOIN",
			theirs.Name, theirs.Host.Short(), e.addr, theirs.Cluster, own.Name, own.Cluster)
	}
	return out
}

// makeRoom drops the host whose last try is longest ago when there are too many.
func (r refusals) makeRoom() {
	if len(r) >= maxRefused {
		delete(r, slices.MinFunc(r.list(), func(a, b Refused) int { return a.Last.Compare(b.Last) }).Addr)
	}
}

// expire drops hosts that have stopped trying.
func (r refusals) expire(now time.Time) {
	maps.DeleteFunc(r, func(_ netip.AddrPort, v Refused) bool { return now.Sub(v.Last) > refusedFor })
}

func (r refusals) list() []Refused {
	out := make([]Refused, 0, len(r))
	for _, v := range r {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Refused) int { return a.Addr.Compare(b.Addr) })
	return out
}
