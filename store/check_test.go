package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckSaysWhatOpenWould(t *testing.T) {
	for _, c := range []struct {
		story string
		make  func(t *testing.T, dir string)
		want  error
		says  string
	}{
		{"nothing there", func(t *testing.T, dir string) { must(t, os.Remove(dir)) }, nil, ""},
		{"an empty directory", func(*testing.T, string) {}, nil, ""},
		{"somebody else's", func(t *testing.T, dir string) { must(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600)) }, nil, ""},
		{"of an agent that ended", func(t *testing.T, dir string) { shut(t, open(t, dir)) }, nil, ""},
		{"of an agent that runs", func(t *testing.T, dir string) {
			s := open(t, dir)
			t.Cleanup(func() { shut(t, s) })
		}, store.ErrInUse, "process id"},
		{"of a newer release", func(t *testing.T, dir string) { shut(t, open(t, dir)); edit(t, dir, "format", "7") }, store.ErrNewerFormat, "format 7"},
		{"not a database", func(t *testing.T, dir string) {
			shut(t, open(t, dir))
			overwrite(t, dir, 0, strings.Repeat("nonsense", 4096))
		}, store.ErrDamaged, "move all"},
	} {
		t.Run(c.story, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			must(t, os.Mkdir(dir, 0o700))
			c.make(t, dir)
			before, _ := os.ReadDir(dir)
			err := store.Check(dir)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("check: %v\nwant %v, saying %q", err, c.want, c.says)
			}
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Errorf("checking left %v, there was %v", after, before)
			}
		})
	}
}

// TestReadIsWhatOpenWouldLoad, also what only the journal has, and it changes nothing.
func TestReadIsWhatOpenWouldLoad(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	if got, err := store.Read(dir, "driver"); err != nil || len(got) > 0 {
		t.Errorf("where nothing is: %q, %v", got, err)
	}
	s := open(t, dir)
	must(t, s.Bucket("driver").Commit(map[string][]byte{"a": []byte("1"), "b": []byte("2")}))
	shut(t, s)
	s = open(t, dir)
	must(t, s.Bucket("driver").Commit(map[string][]byte{"c": []byte("3")}, "a"))
	must(t, os.CopyFS(copied, os.DirFS(dir))) // as after a kill
	for range 2 {
		got, err := store.Read(copied, "driver")
		if err != nil || len(got) != 2 || string(got["b"]) != "2" || string(got["c"]) != "3" {
			t.Errorf("it reads %q, %v", got, err)
		}
	}
	overwrite(t, copied, 0, strings.Repeat("nonsense", 4096))
	if _, err := store.Read(copied, "driver"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("of a damaged one: %v", err)
	}
}
