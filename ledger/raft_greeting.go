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
	cluster netmap.ClusterID // and generation, see raftClusterID
	to      netmap.HostID
	from    netmap.HostID
	birth   state.Birth
	lineage []state.Birth // earlier starts of the disk, back to the last that the ledger acknowledged
}

const (
	greetingVersion = 2 // the first byte; the form before had none
	greetingLen     = 1 + 3*16 + 16 + 2
	maxLineage      = 1024 // as many as a host remembers
)

func (g greeting) encode(to netmap.HostID) []byte {
	g.lineage = g.lineage[:min(len(g.lineage), maxLineage)]
	b := append(make([]byte, 0, greetingLen+16*len(g.lineage)), greetingVersion)
	b = append(append(append(b, g.cluster[:]...), to[:]...), g.from[:]...)
	b = appendBirth(b, g.birth)
	b = binary.BigEndian.AppendUint16(b, uint16(len(g.lineage)))
	for _, e := range g.lineage {
		b = appendBirth(b, e)
	}
	return b
}

func appendBirth(b []byte, e state.Birth) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, e.Start), e.Nonce)
}

func birthAt(b []byte) state.Birth {
	return state.Birth{Start: binary.BigEndian.Uint64(b), Nonce: binary.BigEndian.Uint64(b[8:])}
}

// errForm means that a greeting cannot be read by this release.
var errForm = errors.New("not a greeting of this release; run the same release of weft on all keepers")

// readGreeting reads no byte that comes after the greeting.
func readGreeting(r io.Reader) (greeting, error) {
	var b [greetingLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return greeting{}, err
	}
	if b[0] != greetingVersion {
		return greeting{}, fmt.Errorf("form %d, want %d: %w", b[0], greetingVersion, errForm)
	}
	g := greeting{cluster: netmap.ClusterID(b[1:17]), to: netmap.HostID(b[17:33]), from: netmap.HostID(b[33:49]), birth: birthAt(b[49:])}
	n := int(binary.BigEndian.Uint16(b[65:]))
	if n > maxLineage {
		return greeting{}, fmt.Errorf("%d earlier starts, at most %d: %w", n, maxLineage, errForm)
	}
	rest := make([]byte, 16*n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return greeting{}, err
	}
	for ; len(rest) > 0; rest = rest[16:] {
		g.lineage = append(g.lineage, birthAt(rest))
	}
	return g, nil
}

// knows reports whether the disk that shows this birth may have made another one too.
// It remembers all since the last that the ledger acknowledged; an earlier one is
// known to a keeper that lags, and says nothing.
func (g greeting) knows(b state.Birth) bool {
	if b == g.birth {
		return true
	}
	oldest := g.birth.Start
	for _, e := range g.lineage {
		if e == b {
			return true
		}
		oldest = min(oldest, e.Start)
	}
	return b.Start < oldest
}
