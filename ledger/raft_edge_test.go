package ledger

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
)

func TestTheLogIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	var want []*raft.Log
	for i := range uint64(10) {
		want = append(want, &raft.Log{Index: i + 5, Term: 2, Type: raft.LogCommand, Data: []byte{byte(i)}, AppendedAt: time.Unix(7, 9)})
	}
	want[3].Data, want[3].Extensions, want[3].AppendedAt = []byte{}, []byte("x"), time.Time{}
	if err := errors.Join(l.StoreLogs(want), l.SetUint64([]byte("term"), 9), l.close()); err != nil {
		t.Fatal(err)
	}
	if l, err = openLog(dir); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for _, w := range want {
		var got raft.Log
		if err := l.GetLog(w.Index, &got); err != nil || !cmp.Equal(*w, got) {
			t.Errorf("entry %d: %v %s", w.Index, err, cmp.Diff(*w, got))
		}
	}
	if err := l.DeleteRange(1, 7); err != nil {
		t.Fatal(err)
	}
	first, err1 := l.FirstIndex()
	last, err2 := l.LastIndex()
	if first != 8 || last != 14 || errors.Join(err1, err2) != nil {
		t.Errorf("after truncation: %d to %d", first, last)
	}
	if err := l.GetLog(7, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("a deleted entry: %v", err)
	}
	if v, err := l.GetUint64([]byte("term")); v != 9 || err != nil {
		t.Errorf("term %d, %v", v, err)
	}
	if _, err := l.Get([]byte("absent")); err == nil || err.Error() != "not found" {
		t.Errorf("raft expects the text \"not found\", got %v", err)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(encodeEntry(&raft.Log{Term: 3, Data: []byte("d"), Extensions: []byte("e")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err == nil && !bytes.Equal(encodeEntry(&e), b) {
			t.Errorf("%x came back as %x", b, encodeEntry(&e))
		}
	})
}

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
