package ledger

import (
	"testing"

	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

func FuzzReport(f *testing.F) {
	b, err := state.Encode(report{Keeps: true, Generation: state.NextGeneration(1, 2), Term: 3, Last: 4, Voters: peersOf([]founding.Keeper{{ID: hostID(1), Addr: at(1)}, {ID: hostID(2), Addr: at(2)}})})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) {
		t, err := state.Decode[report](b, state.MaxReply)
		if err != nil {
			return
		}
		c := &survey{self: hostID(1), answers: map[netmap.HostID]report{hostID(2): t, hostID(1): {Keeps: true}}, names: map[netmap.HostID]Member{}}
		_, _ = c.decide(Recovery{}) // whatever it says, it does not panic
	})
}

func TestGenerationsAreStrangers(t *testing.T) {
	first, second, third := raftClusterID(clusterID, 1), raftClusterID(clusterID, state.NextGeneration(1, 7)), raftClusterID(clusterID, state.NextGeneration(1, 8))
	if first != clusterID || second == first || second == third {
		t.Error(first, second, third)
	}
}
