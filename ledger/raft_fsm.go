package ledger

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Decision is what a keeper learned with one index.
type Decision struct {
	Cluster    netmap.ClusterID
	Generation uint64 // of the ledger
	Index      uint64
	Changes    []netmap.Change
	Whole      bool // Changes are everything there is, after a snapshot was restored
	Leader     bool // this keeper leads, so it is the one to tell the others
}

// machine holds the state and feeds it from raft; it implements raft.FSM. raft
// calls it from one goroutine, the mutex is for readers.
type machine struct {
	publish func(Decision) // called for every index, in order
	leads   func() bool
	held    func(netmap.HostID) []netip.Addr // by whom, as last known
	log     *slog.Logger

	mu     sync.Mutex
	state  *state.State
	halted error // an entry could not be understood: nothing after it is applied
	heard  map[netmap.HostID]hearing
	// pending is the state after all entries that were on the disk at the start, decided or
	// not. It is nil once the state has caught up: raft says what was decided when there is a leader.
	pending *state.State
}

// Apply implements raft.FSM. The answer is a Reply or an error.
func (m *machine) Apply(entry *raft.Log) any {
	if entry.Type != raft.LogCommand {
		return nil
	}
	reply, d, err := m.apply(entry)
	if err != nil {
		return err
	}
	m.publish(d)
	return reply
}

func (m *machine) apply(entry *raft.Log) (state.Reply, Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted != nil {
		return state.Reply{}, Decision{}, m.halted
	}
	cmd, err := state.DecodeCommand(entry.Data)
	var refusal *netmap.Refusal
	if err != nil && !errors.As(err, &refusal) {
		// The leader understood it. Without it this state would differ from the others.
		m.halted = fmt.Errorf("ledger: entry %d cannot be applied by this release; upgrade weft on this host: %w", entry.Index, err)
		m.log.Error("ledger: this keeper stops here", "index", entry.Index, "err", m.halted)
		return state.Reply{}, Decision{}, m.halted
	}
	reply, changes := m.state.Apply(entry.Index, cmd)
	m.listen(cmd.Host)
	return reply, m.decision(entry.Index, changes, false), nil
}

func (m *machine) decision(index uint64, changes []netmap.Change, whole bool) Decision {
	if m.pending != nil && m.pending.Applied() <= index {
		m.pending = nil
	}
	return Decision{Cluster: m.state.Cluster(), Generation: m.state.Generation(), Index: index, Changes: changes, Whole: whole, Leader: m.leads()}
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted != nil {
		return nil, m.halted
	}
	b, err := m.state.Encode()
	return raftlog.Frozen(b), err
}

// Restore implements raft.FSM.
func (m *machine) Restore(r io.ReadCloser) error {
	s, err := raftlog.ReadState(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.state, m.halted = s, nil
	for _, h := range s.Hosts() {
		m.listen(h.ID)
	}
	d := m.decision(s.Applied(), s.Changes(), true)
	m.mu.Unlock()
	m.publish(d)
	return nil
}

func (m *machine) level() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Level()
}

// whole returns everything there is, as after a restore.
func (m *machine) whole() Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.decision(m.state.Applied(), m.state.Changes(), true)
}

// addrOf returns the address that a host had at its last admission.
func (m *machine) addrOf(id netmap.HostID) netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, _ := m.state.Host(id)
	return h.Addr
}

// addrsOf returns the addresses that a host had at its last admission: by what is decided, and
// by the log on the disk.
func (m *machine) addrsOf(id netmap.HostID) (out []netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range []*state.State{m.state, m.pending} {
		if s == nil {
			continue
		}
		if h, _ := s.Host(id); h.Addr.IsValid() {
			out = append(out, h.Addr)
		}
	}
	return out
}

// removed reports whether the ledger removed a host, and whether everything in the log on the
// disk has been applied.
func (m *machine) removed(id netmap.HostID) (removed, allApplied bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, _ := m.state.Host(id)
	return h.Removed, m.pending == nil
}

// stateFacts has what the management of keepers needs of the state.
type stateFacts struct {
	cluster    netmap.ClusterID
	generation uint64
	applied    uint64
	admitted   map[netmap.HostID]uint32 // index of each member that was not removed
	removed    map[netmap.HostID]bool
	undeclared string // members that have not told a recovered ledger what they hold, for people
	halted     error
}

func (m *machine) facts() stateFacts {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := stateFacts{
		cluster: m.state.Cluster(), generation: m.state.Generation(), applied: m.state.Applied(), halted: m.halted,
		admitted: map[netmap.HostID]uint32{}, removed: map[netmap.HostID]bool{},
	}
	f.undeclared = m.state.HostNames(m.state.Undeclared())
	for _, h := range m.state.Hosts() {
		if h.Removed {
			f.removed[h.ID] = true
		} else {
			f.admitted[h.ID] = h.Index
		}
	}
	return f
}

// fenced returns why this keeper must not listen to the keeper at the other end of a stream. A
// leader that dials may still bring a removed keeper up to date.
func (m *machine) fenced(self, other greeting, dialled bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, _ := m.state.Host(other.from); h.Removed && !dialled {
		return fmt.Errorf("%s was removed from the cluster", m.state.HostName(other.from))
	}
	if dialled && m.pending != nil { // its vote counts, and what it says as a keeper; a leader that dials in does no harm
		if err := outdated(m.pending, other); err != nil {
			return err
		}
	}
	// This host's own log may know better, too, from before its disk was replaced.
	return errors.Join(outdated(m.state, self), outdated(m.state, other))
}

// outdated returns how it is known that a disk is an older copy. Raft must neither count its
// vote nor believe it, since it forgot what it acknowledged.
func outdated(s *state.State, g greeting) error {
	if h, known := s.Host(g.from); known && !g.knows(h.Incarnation) {
		return fmt.Errorf("%s shows start %d, but its disk does not know start %d, which was seen already: an older copy or a clone; make it a new host there (weft host new-identity)", s.HostName(g.from), g.incarnation.Start, h.Incarnation.Start)
	}
	return nil
}
