package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/weftnet/weft/ledger/state"
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
	f.Add(encodeEntry(&raft.Log{Index: 7, Term: 3, Data: []byte("d"), Extensions: []byte("e")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(7, b)
		if err == nil && !bytes.Equal(encodeEntry(&e), b) {
			t.Errorf("%x came back as %x", b, encodeEntry(&e))
		}
	})
}

// TestChecksumsCoverWhatIsKeptWhere: an entry is of its index, a stable value of its key; no bit
// of either changes unnoticed.
func TestChecksumsCoverWhatIsKeptWhere(t *testing.T) {
	entry := encodeEntry(&raft.Log{Index: 7, Term: 3, Data: []byte("data")})
	if _, err := decodeEntry(8, entry); !errors.Is(err, state.ErrMalformed) {
		t.Errorf("an entry under another index: %v", err)
	}
	dir := t.TempDir()
	l, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetUint64([]byte("CurrentTerm"), 3); err != nil {
		t.Fatal(err)
	}
	var sealed []byte
	err = l.view(func(tx *bbolt.Tx) error {
		sealed = bytes.Clone(tx.Bucket(bucketStable).Get([]byte("CurrentTerm")))
		return nil
	})
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := unseal([]byte("LastVoteTerm"), sealed); !errors.Is(err, state.ErrMalformed) {
		t.Errorf("a value under another key: %v", err)
	}
	flips := func(what string, b []byte, read func([]byte) error) {
		for bit := range 8 * len(b) {
			flipped := bytes.Clone(b)
			if flipped[bit/8] ^= 1 << (bit % 8); read(flipped) == nil {
				t.Errorf("bit %d of %s is changed, and nobody notices", bit, what)
			}
		}
	}
	flips("an entry", entry, func(b []byte) error { _, err := decodeEntry(7, b); return err })
	flips("the term", sealed, func(b []byte) error { _, err := unseal([]byte("CurrentTerm"), b); return err })
}

// logOf is the file of a log with so many entries of term 3, which is a stable value too.
func logOf(t *testing.T, term []byte, entries uint64) []byte {
	t.Helper()
	dir := t.TempDir()
	l, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetUint64(term, 3); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= entries; i++ {
		if err := l.StoreLog(&raft.Log{Index: i, Term: 3, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, 300)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, logFile))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestADamagedFileIsNoticed when the log is opened or the entry is read: raft carries out what it
// reads, on this keeper alone. A file without its end is noticed when it is opened: to go on
// without the newest entries would be to forget what was acknowledged.
func TestADamagedFileIsNoticed(t *testing.T) {
	const entries = 200
	term := []byte("CurrentTerm")
	whole := logOf(t, term, entries)
	read := func(what string, b []byte) error {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, logFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, nil)
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		return l.Within(func() error {
			if got, err := l.GetUint64(term); err != nil || got != 3 {
				t.Errorf("%s: term %d, %v", what, got, err)
			}
			for i := uint64(1); i <= entries; i++ {
				var e raft.Log
				if err := l.GetLog(i, &e); err != nil {
					return err
				}
				if e.Index != i || e.Term != 3 || !bytes.Equal(e.Data, bytes.Repeat([]byte{byte(i)}, 300)) {
					t.Errorf("%s: entry %d is read as %+v", what, i, e)
				}
			}
			return nil
		})
	}
	noticed := 0
	for at := 0; at < len(whole); at += 487 {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		if read(fmt.Sprintf("byte %d", at), b) != nil {
			noticed++
		}
	}
	if noticed < 10 {
		t.Errorf("%d flipped bits were noticed", noticed)
	}
	for size := os.Getpagesize(); size < len(whole)/2; size += 3 * os.Getpagesize() {
		if err := read(fmt.Sprintf("%d bytes", size), whole[:size]); err == nil {
			t.Errorf("of %d bytes %d are left, and nobody notices", len(whole), size)
		}
	}
}
