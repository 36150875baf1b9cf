package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// raft's messages name neither the cluster nor the hosts that they are of and for, so
// a host at the address of a former keeper of another cluster would take them as its
// own, and nobody would see that a voter's disk is an older copy. Therefore every
// stream begins with a greeting of both ends that says so.
type greeting struct {
	cluster     netmap.ClusterID // and generation, see raftClusterID
	to          netmap.HostID
	from        netmap.HostID
	incarnation state.Incarnation
	earlier     []state.Incarnation // earlier starts of the disk, back to the last that the ledger acknowledged
}

const (
	greetingLen = 1 + 3*16 + 16 + 2
	maxEarlier  = 1024 // as many as a host remembers
)

// greetingForms are those of the first byte; the form before had none.
var greetingForms = netmap.Forms{Oldest: 2, Written: 2, Newest: 2}

func (g greeting) encode(to netmap.HostID) []byte {
	g.earlier = g.earlier[:min(len(g.earlier), maxEarlier)]
	b := append(make([]byte, 0, greetingLen+16*len(g.earlier)), greetingForms.Written)
	b = append(append(append(b, g.cluster[:]...), to[:]...), g.from[:]...)
	b = appendIncarnation(b, g.incarnation)
	b = binary.BigEndian.AppendUint16(b, uint16(len(g.earlier)))
	for _, e := range g.earlier {
		b = appendIncarnation(b, e)
	}
	return b
}

func appendIncarnation(b []byte, e state.Incarnation) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, e.Start), e.Nonce)
}

func incarnationAt(b []byte) state.Incarnation {
	return state.Incarnation{Start: binary.BigEndian.Uint64(b), Nonce: binary.BigEndian.Uint64(b[8:])}
}

// errForm means that a greeting cannot be read by this release.
var errForm = errors.New("not a greeting that this release reads; install the newer of the two releases of weft on both keepers")

// readGreeting reads the greeting and no byte after it.
func readGreeting(r io.Reader) (greeting, error) {
	var b [greetingLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return greeting{}, err
	}
	if !greetingForms.Reads(b[0]) {
		return greeting{}, fmt.Errorf("form %d, want %s: %w", b[0], greetingForms, errForm)
	}
	g := greeting{cluster: netmap.ClusterID(b[1:17]), to: netmap.HostID(b[17:33]), from: netmap.HostID(b[33:49]), incarnation: incarnationAt(b[49:])}
	n := int(binary.BigEndian.Uint16(b[65:]))
	if n > maxEarlier {
		return greeting{}, fmt.Errorf("%d earlier starts, at most %d: %w", n, maxEarlier, errForm)
	}
	rest := make([]byte, 16*n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return greeting{}, err
	}
	for ; len(rest) > 0; rest = rest[16:] {
		g.earlier = append(g.earlier, incarnationAt(rest))
	}
	return g, nil
}

// knows reports whether the disk that shows this incarnation may have made the other one too.
// The disk remembers all since the last one that the ledger acknowledged. An earlier one says
// nothing: a keeper that lags may still name it.
func (g greeting) knows(b state.Incarnation) bool {
	if b == g.incarnation {
		return true
	}
	oldest := g.incarnation.Start
	for _, e := range g.earlier {
		if e == b {
			return true
		}
		oldest = min(oldest, e.Start)
	}
	return b.Start < oldest
}
