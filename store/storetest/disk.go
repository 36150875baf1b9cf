// Package storetest has disks for tests that become full.
package storetest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a small file system of its own.
type Disk struct {
	t   testing.TB
	dir string
}

// Mount gives an empty directory, made if it is missing, a disk of its own until the test
// ends. That takes root: without it the test is skipped, or fails where WEFT_LAB_REQUIRED
// is set, so that a machine which should do everything is noticed. The size is as in
// "16m".
func Mount(t testing.TB, dir, size string) *Disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("WEFT_LAB_REQUIRED") != "" {
			t.Fatalf("mount a small tmpfs: %v", err)
		}
		t.Skipf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return &Disk{t, dir}
}

func (d *Disk) filler() string { return filepath.Join(d.dir, "filler") }

// Fill takes all the room that is left.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.Create(d.filler())
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(errors.Join(err, f.Close()), syscall.ENOSPC) {
		d.t.Fatal(err)
	}
}

// Empty gives it back.
func (d *Disk) Empty() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

// Resize makes the disk larger or smaller.
func (d *Disk) Resize(size string) {
	d.t.Helper()
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size="+size); err != nil {
		d.t.Fatal(err)
	}
}
