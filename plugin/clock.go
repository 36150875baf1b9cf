package plugin

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/ledger"
)

// readClocks reads this machine's clocks: the one that runs since boot and while
// suspended (clock_gettime(2)), and the one that people set.
func readClocks() (ledger.Moment, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ledger.Moment{}, fmt.Errorf("plugin: which boot this is: %w", err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return ledger.Moment{}, fmt.Errorf("plugin: the boot clock: %w", err)
	}
	return ledger.Moment{Boot: string(bytes.TrimSpace(boot)), Up: time.Duration(up.Nano()), Wall: time.Now().Round(0)}, nil
}
