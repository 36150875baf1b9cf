package raftlog

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

func TestTheLogIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []*raft.Log
	for i := range uint64(10) {
		want = append(want, &raft.Log{Index: i + 5, Term: 2, Type: raft.LogCommand, Data: []byte{byte(i)}, AppendedAt: time.Unix(7, 9)})
	}
	want[3].Data, want[3].Extensions, want[3].AppendedAt = []byte{}, []byte("x"), time.Time{}
	if err := errors.Join(l.StoreLogs(want), l.SetUint64([]byte("term"), 9), l.Close()); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, nil); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
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
