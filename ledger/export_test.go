package ledger

import (
	"encoding/json"
	"errors"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// FailDisk has everything fail that this keeper asks of its disk from now on.
func (l *Ledger) FailDisk(cause error) { l.kept().log.Fail(cause) }

// DiskWrites counts the transactions of this keeper's disk; each is two syncs.
func (l *Ledger) DiskWrites() int { return l.kept().log.Writes() }

// GreetingFor is how a stream of the first generation begins.
func GreetingFor(cluster netmap.ClusterID, from, to netmap.HostID, start, nonce uint64) []byte {
	return greeting{cluster: raftClusterID(cluster, 1), from: from, incarnation: state.Incarnation{Start: start, Nonce: nonce}}.encode(to)
}

// GreetingBytes is how long one without earlier starts is.
const GreetingBytes = greetingLen

// ServerAddress is what raft is told of a keeper.
var ServerAddress = serverAddress

// Invitation is the body of a request to keep, or to keep no more.
func Invitation(cluster netmap.ClusterID, leader, host netmap.HostID, generation uint64) []byte {
	b, _ := state.Encode(invitation{Cluster: cluster, Leader: leader, Host: host, Generation: generation}) // of plain fields
	return b
}

// KeeperReport is the answer of a keeper that knows more than any other one.
func KeeperReport(self Peer, generation uint64, fenced, removed bool) []byte {
	b, _ := state.Encode(report{ID: self.ID, Keeps: true, Fenced: fenced, Generation: generation, Removed: removed, AllApplied: true, Term: 1 << 20, Last: 1 << 20, Voters: []Peer{self}}) // of plain fields
	return b
}

// Invite makes the keeper of a directory one that was asked to keep the ledger by somebody
// whose log had so many entries, and lost its own log since.
func Invite(dir string, by Peer, after uint64) error {
	l, err := raftlog.Open(dir, nil)
	if err != nil {
		return err
	}
	b, err := json.Marshal(invite{By: by, After: after})
	return errors.Join(err, l.Set(keyInvite, b), l.Close())
}

// GiveLog makes the log in a directory that of another host.
func GiveLog(dir string, to netmap.HostID) error {
	l, err := raftlog.Open(dir, nil)
	if err != nil {
		return err
	}
	return errors.Join(l.Set(keySelf, to[:]), l.Close())
}

// Leaving counts the hosts that this one was told are about to leave.
func (l *Ledger) Leaving() int { return len(l.leaving.at) }

// ConsentAsk is the body of a request to take part in a recovery.
func ConsentAsk(generation uint64, by netmap.HostID) []byte {
	b, _ := state.Encode(consentAsk{Generation: generation, By: by}) // of plain fields
	return b
}

// RefusalOf is what an answer to a command says against it, nil if it was decided.
func RefusalOf(answer []byte) error {
	o, err := state.Decode[outcome](answer, state.MaxReply)
	switch {
	case err != nil:
		return err
	case o.Reply == nil:
		return errors.New("it does not lead")
	}
	return o.Reply.Err()
}
