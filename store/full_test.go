package store_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/store"
	"github.com/weftnet/weft/store/storetest"
)

// untilFull commits until the disk says no, and returns what was answered.
func untilFull(t *testing.T, b *store.Bucket, life string) map[string]string {
	t.Helper()
	held := map[string]string{}
	for i := range 5000 {
		key, value := fmt.Sprintf("%s/%d", life, i), strings.Repeat("x", 3000)
		err := b.Commit(map[string][]byte{key: []byte(value)})
		switch {
		case err == nil:
			held[key] = value
		case errors.Is(err, unix.ENOSPC) && strings.Contains(err.Error(), "disk of the state directory is full"):
			return held
		default:
			t.Fatalf("commit on a full disk: %v", err)
		}
	}
	t.Fatal("the disk is never full")
	return nil
}

// TestIntegrationDiskFull fills a small tmpfs (root only). What was answered stays, what
// was refused does not show, agents start all the same, and when there is room again
// the one that runs goes on.
func TestIntegrationDiskFull(t *testing.T) {
	dir := t.TempDir()
	disk := storetest.Mount(t, dir, "16m")
	s := open(t, dir)
	disk.Fill()
	want := untilFull(t, s.Bucket("ipam"), "first")
	if len(want) < 900 {
		t.Errorf("%d commits fitted into the journal", len(want))
	}
	same := func(what string) {
		t.Helper()
		if got := load(t, s.Bucket("ipam")); !maps.Equal(want, got) {
			t.Errorf("%s: %d keys, want %d", what, len(got), len(want))
		}
	}
	same("on a full disk")
	for n := range 5 {
		shut(t, s)
		s = open(t, dir)
		if start := s.Identity().Start; start != uint64(n+2) {
			t.Errorf("start number %d in life %d", start, n+2)
		}
		if more := untilFull(t, s.Bucket("ipam"), "later"); len(more) > 0 {
			t.Errorf("%d commits went where the first life found no room", len(more))
		}
		same("after a restart on a full disk")
	}
	disk.Empty()
	put(t, s.Bucket("ipam"), "after", "room")
	want["after"] = "room"
	same("with room again")
	crashed := open(t, copyOf(t, dir))
	if got := load(t, crashed.Bucket("ipam")); !maps.Equal(want, got) {
		t.Errorf("after a crash: %d keys, want %d", len(got), len(want))
	}
}

// TestIntegrationNoRoomForAJournal: a first start, or an upgrade, on a disk that is too
// full says so and changes nothing.
func TestIntegrationNoRoomForAJournal(t *testing.T) {
	dir := t.TempDir()
	disk := storetest.Mount(t, dir, "2m")
	if err := os.CopyFS(dir, os.DirFS(unzipped(t))); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(dir)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "a new journal needs 4096 KiB") {
		t.Errorf("open: %v", err)
	}
	if got := bare(t, dir)["weft"]["format"]; got != "1" {
		t.Errorf("format %s", got)
	}
	disk.Resize("8m")
	if got := load(t, open(t, dir).Bucket("ipam")); len(got) < 50 {
		t.Errorf("%d records once there was room", len(got))
	}
}
