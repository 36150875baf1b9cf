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

// readClocks reads this machine's clocks: the one that runs since boot and while
// suspended (clock_gettime(2)), and the one that people set.
func readClocks() (lease.Moment, error) {
	boot, err := bootID()
	if err != nil {
		return lease.Moment{}, fmt.Errorf("member: which boot this is: %w", err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return lease.Moment{}, fmt.Errorf("member: the boot clock: %w", err)
	}
	return lease.Moment{Boot: boot, Up: time.Duration(up.Nano()), Wall: time.Now().Round(0)}, nil
}

// knownBoot is what bootID has read. No process outlives a start of the machine, and the
// clocks are read for every address that is handed out.
var knownBoot atomic.Pointer[string]

// bootID tells this start of the machine from all others.
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

// ClocksFile is in a directory that a reboot empties.
const ClocksFile = "clocks"

// openClocks reads back what an earlier agent of this start of the machine saw. Without
// a directory for it an agent knows only what it saw by itself.
func (m *Member) openClocks() *lease.Clocks {
	read := m.cfg.Clocks
	if read == nil {
		read = readClocks
	}
	if m.cfg.Volatile == "" {
		return lease.NewClocks(read, nil, func([]byte) {})
	}
	file := filepath.Join(m.cfg.Volatile, ClocksFile)
	noted, _ := os.ReadFile(file) // there is none after a boot
	return lease.NewClocks(read, noted, func(raw []byte) {
		if err := writeVolatile(file, raw); err != nil {
			m.cfg.Log.Warn("how the wall clock was set would be forgotten with this agent", "err", err)
		}
	})
}

// writeVolatile replaces a file that need not outlive the machine's run, all or nothing.
func writeVolatile(file string, raw []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
