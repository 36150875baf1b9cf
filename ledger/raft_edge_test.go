package ledger

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
)

func TestServerAddresses(t *testing.T) {
	want := netip.MustParseAddrPort("[2001:db8::1]:7950")
	id, addr, err := parseServer(serverAddress(hostID(3), want))
	if id != hostID(3) || addr != want || err != nil {
		t.Errorf("got %s %s, %v", id, addr, err)
	}
	for _, bad := range []raft.ServerAddress{"", "x@1.2.3.4:5", raft.ServerAddress(hostID(1).String()), raft.ServerAddress(hostID(1).String() + "@nowhere")} {
		if _, _, err := parseServer(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// FuzzServerAddress: raft's own configuration has these, and every stream begins with one.
func FuzzServerAddress(f *testing.F) {
	f.Add(string(serverAddress(hostID(3), netip.MustParseAddrPort("[2001:db8::1]:7950"))))
	f.Add(hostID(1).String() + "@nowhere")
	f.Fuzz(func(t *testing.T, a string) {
		id, at, err := parseServer(raft.ServerAddress(a))
		if err != nil {
			return
		}
		id2, at2, err := parseServer(serverAddress(id, at))
		if err != nil || id2 != id || at2 != at {
			t.Errorf("%q is %s at %s, and then %s at %s, %v", a, id, at, id2, at2, err)
		}
	})
}

// TestANewerEntryStopsTheKeeper: to skip what other keepers apply would be to
// disagree with them for ever.
func TestANewerEntryStopsTheKeeper(t *testing.T) {
	published := 0
	m := &machine{state: state.NewState(), leads: func() bool { return false }, log: slog.New(slog.DiscardHandler), publish: func(Decision) { published++ }}
	renew, err := state.EncodeCommand(state.Command{Kind: state.KindRenew, Host: hostID(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Apply(&raft.Log{Index: 1, Data: renew}).(state.Reply); !ok {
		t.Error("a command of this release was not applied")
	}
	for i, data := range [][]byte{[]byte(`{"v":99,"body":{}}`), renew} {
		if err, ok := m.Apply(&raft.Log{Index: uint64(i + 2), Data: data}).(error); !ok || !errors.Is(err, state.ErrNewer) {
			t.Errorf("entry %d was applied after one of a newer release", i+2)
		}
	}
	if _, err := m.Snapshot(); !errors.Is(err, state.ErrNewer) || published != 1 {
		t.Errorf("a stopped keeper made a snapshot (%v) or published %d times", err, published)
	}
}
