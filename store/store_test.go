package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store"
)

// open opens a store that the test closes at its end at the latest.
func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func shut(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func load(t testing.TB, b *store.Bucket) map[string]string {
	t.Helper()
	raw, err := b.Load()
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	got := map[string]string{}
	for k, v := range raw {
		got[k] = string(v)
	}
	return got
}

func TestCommitSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Bucket("ipam").Commit(map[string][]byte{"a": []byte("1"), "b": []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Bucket("driver").Commit(map[string][]byte{"a": []byte("other room")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Bucket("ipam").Commit(map[string][]byte{"b": []byte("3")}, "a", "never there"); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, dir)
	if diff := cmp.Diff(map[string]string{"b": "3"}, load(t, s.Bucket("ipam"))); diff != "" {
		t.Errorf("ipam after reopen (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "other room"}, load(t, s.Bucket("driver"))); diff != "" {
		t.Errorf("driver after reopen (-want +got):\n%s", diff)
	}
	if got := load(t, s.Bucket("unused")); len(got) != 0 {
		t.Errorf("unused bucket holds %v", got)
	}
}

func TestCommitsOfManyCallersAllArrive(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := s.Bucket("ipam")
	want := map[string]string{}
	var wg sync.WaitGroup
	for c := range 16 {
		for i := range 20 {
			want[fmt.Sprintf("%d/%d", c, i)] = "held"
		}
		wg.Go(func() {
			for i := range 20 {
				if err := b.Commit(map[string][]byte{fmt.Sprintf("%d/%d", c, i): []byte("held")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	shut(t, s)
	if diff := cmp.Diff(want, load(t, open(t, dir).Bucket("ipam"))); diff != "" {
		t.Errorf("after reopen (-want +got):\n%s", diff)
	}
}

func TestOneBadCommitSpoilsNoOther(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if i%2 == 0 {
				if err := s.Bucket("ipam").Commit(map[string][]byte{"": nil}); err == nil {
					t.Error("an empty key was accepted")
				}
				return
			}
			if err := s.Bucket("ipam").Commit(map[string][]byte{fmt.Sprint(i): nil}); err != nil {
				t.Errorf("commit beside a bad one: %v", err)
			}
		})
	}
	wg.Wait()
	if err := s.Bucket("").Commit(nil); err == nil {
		t.Error("a bucket without a name was accepted")
	}
}

func TestSecondAgentIsRefusedAndToldWhoHoldsIt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := store.Open(dir)
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second open: %v, want ErrInUse with our process id", err)
	}
	shut(t, s)
	open(t, dir)
}

func TestCommitAfterClose(t *testing.T) {
	s := open(t, t.TempDir())
	shut(t, s)
	if err := s.Bucket("x").Commit(map[string][]byte{"a": nil}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
}

func TestIdentityIsMadeOnceAndEveryStartIsANewBirth(t *testing.T) {
	dir := t.TempDir()
	var lives []store.Identity
	for range 4 {
		s := open(t, dir)
		lives = append(lives, s.Identity())
		shut(t, s)
	}
	for i, id := range lives {
		if id.Host != lives[0].Host || id.Host.IsZero() {
			t.Errorf("life %d is host %s, want %s", i, id.Host, lives[0].Host)
		}
		if id.Start != uint64(i+1) {
			t.Errorf("life %d has start number %d", i, id.Start)
		}
		if len(id.Earlier) != i || i > 0 && id.Earlier[0] != (store.Incarnation{Start: lives[i-1].Start, Nonce: lives[i-1].Nonce}) {
			t.Errorf("start %d has earlier starts %v", i, id.Earlier)
		}
	}
	s := open(t, dir)
	if err := s.Acknowledge(3); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	id := open(t, dir).Identity()
	var starts []uint64
	for _, b := range id.Earlier {
		starts = append(starts, b.Start)
	}
	if diff := cmp.Diff([]uint64{5, 4, 3}, starts); id.Start != 6 || diff != "" {
		t.Errorf("life %d after acknowledging 3 (-want +got):\n%s", id.Start, diff)
	}
}

func TestEarlierStartsAreBoundedAndKeepTheAcknowledgedOne(t *testing.T) {
	id := store.Identity{Start: 1, Nonce: 77}
	for range 3000 {
		id = id.Next()
	}
	if n := len(id.Earlier); n != 1024 {
		t.Fatalf("%d earlier starts", n)
	}
	if first := id.Earlier[1023]; first != (store.Incarnation{Start: 1, Nonce: 77}) {
		t.Errorf("oldest earlier start is %+v", first)
	}
	if newest := id.Earlier[0]; newest.Start != id.Start-1 {
		t.Errorf("newest earlier start is %+v at start %d", newest, id.Start)
	}
}

func TestNewIdentity(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	old := s.Identity()
	fresh, err := s.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Host == old.Host || fresh.Start != 1 || fresh.Nonce == old.Nonce || len(fresh.Earlier) != 0 {
		t.Errorf("new identity %+v after %+v", fresh, old)
	}
	shut(t, s)
	if again := open(t, dir).Identity(); again.Host != fresh.Host || again.Start != 2 {
		t.Errorf("after reopen %+v, want host %s at start 2", again, fresh.Host)
	}
}

func TestClusterIsSetOnce(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := netmap.ClusterID{1}, netmap.ClusterID{2}
	s := open(t, dir)
	if !s.Cluster().IsZero() {
		t.Error("a fresh directory has a cluster")
	}
	for range 2 {
		if err := s.SetCluster(ours); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, s)
	s = open(t, dir)
	err := s.SetCluster(theirs)
	if !errors.Is(err, &netmap.Refusal{Kind: netmap.Foreign}) ||
		!strings.Contains(err.Error(), ours.String()) || !strings.Contains(err.Error(), theirs.String()) {
		t.Errorf("another cluster: %v, want a refusal naming both", err)
	}
	if s.Cluster() != ours {
		t.Errorf("cluster is %s", s.Cluster())
	}
	if err := s.SetCluster(netmap.ClusterID{}); err == nil {
		t.Error("cluster zero was accepted")
	}
}

// edit changes the file behind the store's back.
func edit(t *testing.T, dir, key, value string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "weft.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("weft")).Put([]byte(key), []byte(value))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	for _, c := range []struct {
		story string
		spoil func(t *testing.T, dir string)
		want  error
		says  string
	}{
		{"newer format", func(t *testing.T, dir string) { edit(t, dir, "format", "7") }, store.ErrNewerFormat, "format 7, this release of weft reads up to format 2"},
		{"format is no number", func(t *testing.T, dir string) { edit(t, dir, "format", "x") }, store.ErrDamaged, `format "x"`},
		{"identity is no JSON", func(t *testing.T, dir string) { edit(t, dir, "identity", "{") }, store.ErrDamaged, "identity"},
		{"identity is empty", func(t *testing.T, dir string) { edit(t, dir, "identity", "{}") }, store.ErrDamaged, "identity"},
		{"cluster is no id", func(t *testing.T, dir string) { edit(t, dir, "cluster", "zz") }, store.ErrDamaged, "cluster"},
		{"not a database", func(t *testing.T, dir string) { overwrite(t, dir, 0, strings.Repeat("nonsense", 4096)) }, store.ErrDamaged, "move all that is in"},
		{"bad pages behind good heads", func(t *testing.T, dir string) { overwrite(t, dir, 8192, strings.Repeat("\xff", 24576)) }, store.ErrDamaged, "move all that is in"},
	} {
		t.Run(c.story, func(t *testing.T) {
			dir := t.TempDir()
			shut(t, open(t, dir))
			c.spoil(t, dir)
			_, err := store.Open(dir)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("open: %v\nwant %v, saying %q", err, c.want, c.says)
			}
		})
	}
}

func overwrite(t *testing.T, dir string, at int64, with string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "weft.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(with), at); err != nil {
		t.Fatal(err)
	}
}

// TestSkipTo: the next start begins above a number, and remembers the earlier ones.
func TestSkipTo(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	was := s.Identity()
	for _, start := range []uint64{7, 3} {
		if err := s.SkipTo(start); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := s.Identity()
	if now.Host != was.Host || now.Start != 8 || len(now.Earlier) != 2 || now.Earlier[0].Start != 7 || now.Earlier[1] != (store.Incarnation{Start: was.Start, Nonce: was.Nonce}) {
		t.Errorf("after %+v came %+v", was, now)
	}
}
