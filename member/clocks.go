package member

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/lease"
)

// readClocks reads this machine's clocks: the boot clock, which also runs while the machine is
// suspended (clock_gettime(2)), and the wall clock, which people set.
func readClocks() (lease.Moment, error) {
	boot, err := bootID()
	if err != nil {
		return lease.Moment{}, fmt.Errorf("member: cannot read the boot id: %w", err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return lease.Moment{}, fmt.Errorf("member: cannot read the boot clock: %w", err)
	}
	return lease.Moment{Boot: boot, Up: time.Duration(up.Nano()), Wall: time.Now().Round(0)}, nil
}

// knownBoot caches bootID. The clocks are read for every address that is handed out, and the
// boot id of a process never changes.
var knownBoot atomic.Pointer[string]

// bootID identifies this boot of the machine.
func bootID() (string, error) {
	if known := knownBoot.Load(); known != nil {
		return *known, nil
	}
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	id := string(bytes.TrimSpace(raw))
	knownBoot.Store(&id)
	return id, nil
}

// ClocksFile is in Config.Volatile.
const ClocksFile = "clocks"

// openClocks reads what an earlier agent noted about the clocks since this boot. Without a
// directory for that, an agent knows only what it saw itself.
func (m *Member) openClocks() *lease.Clocks {
	read := m.cfg.Clocks
	if read == nil {
		read = readClocks
	}
	if m.cfg.Volatile == "" {
		return lease.NewClocks(read, nil, func([]byte) {})
	}
	file := filepath.Join(m.cfg.Volatile, ClocksFile)
	noted, _ := os.ReadFile(file) // after a boot there is none
	return lease.NewClocks(read, noted, func(raw []byte) {
		if err := writeVolatile(file, raw); err != nil {
			m.cfg.Log.Warn("the next agent will not know how the wall clock was set", "err", err)
		}
	})
}

// writeVolatile replaces a file atomically. The file need not survive a reboot, so it is not
// synced.
func writeVolatile(file string, raw []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
