package netns

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// pin pins a namespace until the test ends.
func pin(t *testing.T, pid int, path string, ns *Namespace) *Namespace {
	t.Helper()
	pinned, err := Pin(pid, path, ns)
	check(t, err)
	t.Cleanup(func() {
		_ = pinned.Close() // some tests close it themselves
		_, err := Unpin(pid, path)
		check(t, err)
	})
	return pinned
}

func TestIntegrationAPinOutlivesItsMaker(t *testing.T) {
	ns := create(t)
	want, path := id(t, ns), filepath.Join(t.TempDir(), "run/weft/netns/test")
	pinned := pin(t, 0, path, ns)
	check(t, errors.Join(pinned.Close(), ns.Close()))
	found, err := Open(path)
	check(t, err)
	defer func() { _ = found.Close() }()
	if id(t, found) != want {
		t.Error("another namespace is pinned")
	}
}

func TestIntegrationTheFirstPinCounts(t *testing.T) {
	first, second, path := create(t), create(t), filepath.Join(t.TempDir(), "test")
	pin(t, 0, path, first)
	if got := pin(t, 0, path, second); id(t, got) != id(t, first) {
		t.Error("a second pin replaced the first")
	}
}

func TestIntegrationAPinTakesAFileThatIsLeftOver(t *testing.T) {
	ns, path := create(t), filepath.Join(t.TempDir(), "test")
	check(t, os.WriteFile(path, nil, 0o444)) // as after a reboot in between
	if got := pin(t, 0, path, ns); id(t, got) != id(t, ns) {
		t.Error("another namespace is pinned")
	}
}

func TestIntegrationAPinInTheMountNamespaceOfAnother(t *testing.T) {
	pid, ns := otherMounts(t), create(t)
	path := filepath.Join(t.TempDir(), "test")
	pin(t, pid, path, ns)
	if _, err := Open(path); !errors.Is(err, ErrNotExist) {
		t.Errorf("it shows in our own mount namespace: %v", err)
	}
	seen, err := Open(filepath.Join("/proc", strconv.Itoa(pid), "root", path))
	check(t, err)
	defer func() { _ = seen.Close() }()
	if id(t, seen) != id(t, ns) {
		t.Error("another namespace is pinned")
	}
}

func TestIntegrationUnpinLeavesNothing(t *testing.T) {
	ns, dir := create(t), t.TempDir()
	path, other := filepath.Join(dir, "weft/netns/test"), filepath.Join(dir, "weft/keep")
	pin(t, 0, path, ns)
	check(t, os.WriteFile(other, nil, 0o600))
	for _, want := range []bool{true, false} {
		if was, err := Unpin(0, path); err != nil || was != want {
			t.Errorf("there was one: %v, %v, want %v", was, err, want)
		}
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("a file of others: %v", err)
	}
}
