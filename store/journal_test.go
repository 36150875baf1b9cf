package store_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/store"
)

// small opens a store that makes a checkpoint every few commits.
func small(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.OpenSmall(dir, 4)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, b *store.Bucket, key, value string) {
	t.Helper()
	if err := b.Commit(map[string][]byte{key: []byte(value)}); err != nil {
		t.Fatalf("commit %s: %v", key, err)
	}
}

// copyOf is what a crash at this moment leaves.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestWhatIsAnsweredIsThereAtEveryMoment: after each commit, over many checkpoints, a
// Load and a crash both show all of them, and what was deleted is gone.
func TestWhatIsAnsweredIsThereAtEveryMoment(t *testing.T) {
	dir := t.TempDir()
	s := small(t, dir)
	b := s.Bucket("ipam")
	want := map[string]string{}
	for i := range 40 {
		key, value := fmt.Sprintf("addr/%d", i%7), strings.Repeat("v", i*i%9000)
		if i%3 == 2 {
			if err := b.Commit(nil, key); err != nil {
				t.Fatal(err)
			}
			delete(want, key)
		} else {
			put(t, b, key, value)
			want[key] = value
		}
		if diff := cmp.Diff(want, load(t, b)); diff != "" {
			t.Fatalf("commit %d (-want +got):\n%s", i, diff)
		}
		crashed := open(t, copyOf(t, dir))
		if diff := cmp.Diff(want, load(t, crashed.Bucket("ipam"))); diff != "" {
			t.Fatalf("a crash after commit %d (-want +got):\n%s", i, diff)
		}
		shut(t, crashed)
	}
}

// TestACommitCutShortIsWrittenOver: the disk has only the beginning of the newest
// commit when the power fails; the next life goes on over it.
func TestACommitCutShortIsWrittenOver(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 3 {
		put(t, s.Bucket("ipam"), fmt.Sprint(i), "held")
	}
	before := copyOf(t, dir)
	put(t, s.Bucket("ipam"), "newest", strings.Repeat("v", 6000))
	newer, err := os.ReadFile(filepath.Join(dir, store.JournalName))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"0": "held", "1": "held", "2": "held", "next": "v"}
	const page = 4096
	for _, bytes := range []int{1, 4, 23, 24, 100, page - 1, page, page + 1, 6000} {
		crashed := copyOf(t, before)
		f, err := os.OpenFile(filepath.Join(crashed, store.JournalName), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(newer[3*page:3*page+bytes], 3*page)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		s := open(t, crashed)
		put(t, s.Bucket("ipam"), "next", "v")
		again := open(t, copyOf(t, crashed))
		if diff := cmp.Diff(want, load(t, again.Bucket("ipam"))); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", bytes, diff)
		}
	}
}

// TestALoneCommitIsOneSync, and so are those that came while it was under way.
func TestALoneCommitIsOneSync(t *testing.T) {
	s := open(t, t.TempDir())
	b := s.Bucket("ipam")
	syncs, hold, entered := 0, make(chan struct{}), make(chan struct{}, 1)
	close(hold)
	s.Syncing(func(sync func() error) error {
		syncs++
		select {
		case entered <- struct{}{}:
		default:
		}
		<-hold
		return sync()
	})
	for i := range 5 {
		put(t, b, fmt.Sprint(i), "v")
	}
	if syncs != 5 {
		t.Errorf("5 commits one by one made %d syncs", syncs)
	}
	<-entered
	hold = make(chan struct{})
	done := make(chan error)
	commit := func(i int) { done <- b.Commit(map[string][]byte{fmt.Sprint(i): nil}) }
	go commit(0)
	<-entered
	for i := range 15 {
		go commit(i)
	}
	s.WaitPending(15)
	close(hold)
	for range 16 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if syncs != 7 {
		t.Errorf("a commit and the 15 that came meanwhile made %d syncs, want 2", syncs-5)
	}
}

// TestAFailedSyncEndsWriting: nobody knows what is on disk after it, so nothing that
// follows may be answered, and a restart finds what was answered before.
func TestAFailedSyncEndsWriting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := s.Bucket("ipam")
	put(t, b, "before", "it")
	bad := true
	s.Syncing(func(sync func() error) error {
		if bad {
			return unix.EIO
		}
		return sync()
	})
	for range 2 {
		err := b.Commit(map[string][]byte{"during": nil})
		if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "until the agent is restarted") {
			t.Errorf("a commit that cannot be synced: %v", err)
		}
		bad = false
	}
	want := map[string]string{"before": "it"}
	if diff := cmp.Diff(want, load(t, b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	shut(t, s)
	if got := load(t, open(t, dir).Bucket("ipam")); got["before"] != "it" {
		t.Errorf("after a restart: %v", got)
	}
}

// unzipped puts a state file of format 1 into a new directory: one that an agent of
// the simulation left when it was killed, before there was a journal.
func unzipped(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open("testdata/format1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, store.FileName), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// bare is a state file as bbolt sees it, without the journal.
func bare(t *testing.T, dir string) map[string]map[string]string {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, store.FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got := map[string]map[string]string{}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			got[string(name)] = map[string]string{}
			return b.ForEach(func(k, v []byte) error {
				got[string(name)][string(k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestADirectoryOfFormat1IsUpgraded(t *testing.T) {
	dir := unzipped(t)
	before := bare(t, dir)
	if before["weft"]["format"] != "1" || len(before["ipam"]) < 50 {
		t.Fatalf("no directory of format 1: %v", before["weft"])
	}
	var was store.Identity
	if err := json.Unmarshal([]byte(before["weft"]["identity"]), &was); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if id := s.Identity(); id.Host != was.Host || id.Start != was.Start+1 || id.Earlier[0] != (store.Incarnation{Start: was.Start, Nonce: was.Nonce}) {
		t.Errorf("identity %+v after %+v", id, was)
	}
	if got := s.Cluster().String(); got != before["weft"]["cluster"] {
		t.Errorf("cluster %s, want %s", got, before["weft"]["cluster"])
	}
	for name, want := range before {
		if name != "weft" {
			if diff := cmp.Diff(want, load(t, s.Bucket(name))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	put(t, s.Bucket("ipam"), "addr/10.41.0.200", "new")
	crashed := open(t, copyOf(t, dir))
	before["ipam"]["addr/10.41.0.200"] = "new"
	if diff := cmp.Diff(before["ipam"], load(t, crashed.Bucket("ipam"))); diff != "" {
		t.Errorf("after a crash (-want +got):\n%s", diff)
	}
	shut(t, s)
	// Earlier releases refuse what is not "1".
	if got := bare(t, dir)["weft"]["format"]; got != "2" {
		t.Errorf("format %s after the upgrade", got)
	}
}

// TestAnUpgradeThatWasCutShortIsRepeated: the journal is there, whole or not, and the
// state file does not know.
func TestAnUpgradeThatWasCutShortIsRepeated(t *testing.T) {
	for _, size := range []int{0, 1000, 4096 * 4} {
		dir := unzipped(t)
		if err := os.WriteFile(filepath.Join(dir, store.JournalName), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := load(t, open(t, dir).Bucket("ipam")); len(got) < 50 {
			t.Errorf("%d bytes of journal: %d records", size, len(got))
		}
	}
}

// TestCloseFoldsEverything: a copy of the state file of a host at rest is whole.
func TestCloseFoldsEverything(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s.Bucket("ipam"), "a", "1")
	if got := bare(t, copyOf(t, dir))["ipam"]; len(got) != 0 {
		t.Errorf("it is in the state file already: %v", got)
	}
	shut(t, s)
	if got := bare(t, dir)["ipam"]; !maps.Equal(got, map[string]string{"a": "1"}) {
		t.Errorf("the state file has %v", got)
	}
}

// TestAJournalThatDoesNotFitIsRefused: to go on without it would lose addresses.
func TestAJournalThatDoesNotFitIsRefused(t *testing.T) {
	write := func(dir, name string, at int64, b []byte) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(b, at)
		return errors.Join(err, f.Close())
	}
	for _, c := range []struct {
		story, says string
		spoil       func(dir string) error
	}{
		{"gone", "is missing, which holds the newest commits", func(dir string) error { return os.Remove(filepath.Join(dir, store.JournalName)) }},
		{"cut short", "has 100 bytes instead of", func(dir string) error { return os.Truncate(filepath.Join(dir, store.JournalName), 100) }},
		{"a wrong byte in the middle", "page 1 cannot be read, and page 2, written after it, can", func(dir string) error { return write(dir, store.JournalName, 4096+30, []byte{0xff}) }},
		{"its state file is gone", "the state file of 0, an older one", func(dir string) error { return os.Remove(filepath.Join(dir, store.FileName)) }},
	} {
		t.Run(c.story, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			for i := range 4 {
				put(t, s.Bucket("ipam"), fmt.Sprint(i), "held")
			}
			crashed := copyOf(t, dir)
			if err := c.spoil(crashed); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err := store.Open(crashed)
				if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "move all that is in") {
					t.Errorf("open: %v\nwant ErrDamaged, saying %q", err, c.says)
				}
			}
		})
	}
}

// TestAStateFileThatIsSpoiltUnderTheAgent: the commit that makes the checkpoint says so, and so
// do all after it, what the journal holds stays, and the agent can still end.
func TestAStateFileThatIsSpoiltUnderTheAgent(t *testing.T) {
	for story, spoil := range map[string]func(dir string) error{
		"bad pages": func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, store.FileName), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte(strings.Repeat("\xa5", 24576)), 8192)
			return errors.Join(err, f.Close())
		},
		"cut short": func(dir string) error { return os.Truncate(filepath.Join(dir, store.FileName), 8192) },
	} {
		t.Run(story, func(t *testing.T) {
			dir := t.TempDir()
			s := small(t, dir)
			b := s.Bucket("ipam")
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			var err error
			for i := 0; err == nil && i < 10; i++ {
				err = b.Commit(map[string][]byte{fmt.Sprint(i): nil})
			}
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("commits on bad pages: %v", err)
			}
			if again := b.Commit(map[string][]byte{"again": nil}); !errors.Is(again, store.ErrDamaged) || s.Problem() != err.Error() {
				t.Errorf("the next commit: %v\nproblem: %s", again, s.Problem())
			}
			shut(t, s)
		})
	}
}
